"""Between which senses a run's network looks, on its own rows."""

from __future__ import annotations

import numpy as np

from deepseek.data.batch import in_pieces
from deepseek.data.prepared import PreparedDataset
from deepseek.data.transforms.base import Array
from deepseek.explainers.attention import looks, mean_between
from deepseek.models.fusion.cross_attention import CrossAttentionFusion
from deepseek.models.network import Network
from deepseek.pipeline.analysis.predictions import sample_of
from deepseek.reporting.facts import AttentionFacts
from deepseek.tasks.model import TaskModel

ROWS = 200


def attention_facts(model: TaskModel, data: PreparedDataset, *, places: np.ndarray, seed: int) -> AttentionFacts | None:
    """Return how the looks of each sense are shared among the others, on average over rows; nothing where a network has no such attention.

    Args:
        model: The trained model.
        data: The split's prepared rows.
        places: Which of them may be looked at; a sample of them is.
        seed: Says which.
    """
    network = model.network
    if not isinstance(network, Network) or not isinstance(network.fusion, CrossAttentionFusion):
        return None
    chosen = places[sample_of(len(places), ROWS, seed)]
    rows = data.take(chosen, ragged=False)
    arrays: dict[str, Array] = {name: tensor.numpy() for name, tensor in rows.inputs.items()}
    arrays |= {column.name: data.ragged(column.name, chosen) for column in data.layout if column.ragged}
    seen = [looks(network, inputs) for _, inputs in in_pieces(arrays)]
    between = np.concatenate([one.between for one in seen])
    return AttentionFacts(len(between), seen[0].senses, mean_between(between).tolist())
