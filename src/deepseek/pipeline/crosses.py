"""How many combinations of crossed columns share a weight: what a hash costs is said before anything is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from deepseek.data.prepared import PreparedDataset
from deepseek.models.wide import WideLayer
from deepseek.tasks.model import TaskModel

MOST_ROWS = 1 << 20
_AT_ONCE = 1 << 16


@torch.no_grad()
def shared_weights(model: TaskModel, data: PreparedDataset) -> list[dict[str, Any]]:
    """Return, for each cross whose combinations share weights by a hash, how many of those in the rows do; nothing for other models.

    Args:
        model: The network, trained or not: which weights belong to a row is no matter of training.
        data: Its training rows, of which the first million are looked at.

    Returns:
        For each cross its `columns`, how many `combinations` the rows have, and how many of them are `sharing` a weight with another.
    """
    if not isinstance(model.beside, WideLayer):
        return []
    found: dict[tuple[str, ...], np.ndarray] = {}
    for start in range(0, min(len(data), MOST_ROWS), _AT_ONCE):
        batch = data.take(np.arange(start, min(start + _AT_ONCE, len(data), MOST_ROWS)))
        ready = model.network.ready(batch.inputs, only=model.beside.reads)
        for names, rows in model.beside.codes.hashed(ready).items():
            known = [found[names]] if names in found else []
            found[names] = np.unique(np.concatenate([*known, rows.numpy()]), axis=0)
    told = []
    for names, met in found.items():
        _, place, count = np.unique(met[:, -1], return_inverse=True, return_counts=True)
        told.append({"columns": list(names), "combinations": len(met), "sharing": int((count[place] > 1).sum())})
    return told


def said(cross: dict[str, Any]) -> str:
    """Return in words what `shared_weights` found of a cross."""
    shares = f"{cross['sharing']:,} of {cross['combinations']:,} combinations of the training rows share their weight with another"
    return f"cross of {', '.join(cross['columns'])}: {shares} (model.buckets)"
