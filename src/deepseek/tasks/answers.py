"""Decoded answers as tables, with the class names in the type that the data had; without torch, as small machines have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from deepseek.data.targets import TargetSpec

if TYPE_CHECKING:
    from torch import Tensor

    Decoded = Tensor | np.ndarray

LABEL_THRESHOLD = 0.5


def answer_table(target: TargetSpec, decoded: Mapping[str, Decoded]) -> pa.Table:
    """Turn what a task's `decode` returned, as tensors or arrays, into a table: the answer of every built-in task.

    Args:
        target: What is predicted.
        decoded: `probability` `[b, classes]` for classes and labels, `standardized` `[b, columns]` for values.
    """
    if target.kind == "values":
        return value_table(target, decoded["standardized"])
    return (label_table if target.kind == "labels" else class_table)(target, decoded["probability"])


def class_names(target: TargetSpec) -> pa.Array:
    """Return the names of the classes: numbers where the table held numbers, else text."""
    if target.integer_classes:
        return pa.array([int(name) for name in target.classes])
    return pa.array(target.classes, type=pa.string())


def class_table(target: TargetSpec, probability: Decoded) -> pa.Table:
    """Return `prediction` (the likeliest class) and one `probability_CLASS` column a class, for probabilities `[b, classes]`."""
    values = _array(probability)
    best = values.argmax(axis=1) if len(values) else np.zeros(0, dtype=np.int64)
    return pa.table({"prediction": class_names(target).take(pa.array(best)), **_columns(target, values)})


def label_table(target: TargetSpec, probability: Decoded) -> pa.Table:
    """Return `prediction` (the list of labels of at least one half) and one `probability_LABEL` column a label, for `[b, labels]`."""
    values = _array(probability)
    chosen = values >= LABEL_THRESHOLD
    names = class_names(target)
    offsets = np.concatenate(([0], chosen.sum(axis=1).cumsum())).astype(np.int32)
    labels = names.take(pa.array(np.nonzero(chosen)[1]))
    return pa.table({"prediction": pa.ListArray.from_arrays(pa.array(offsets), labels), **_columns(target, values)})


def value_table(target: TargetSpec, standardized: Decoded) -> pa.Table:
    """Return `prediction`, or one `prediction_COLUMN` column a target column where there are several, in the target's units.

    Args:
        target: Gives mean and standard deviation.
        standardized: `[b, columns]`, in standard deviations from the training mean.

    Returns:
        float64 columns: float32 would round what stands beside a large mean.
    """
    values = _array(standardized).astype(np.float64) * np.array(target.std) + np.array(target.mean)
    several = len(target.columns) > 1
    return pa.table(
        {f"prediction_{name}" if several else "prediction": pa.array(values[:, place]) for place, name in enumerate(target.columns)}
    )


def forecast_table(target: TargetSpec, decoded: Mapping[str, Decoded], levels: Sequence[float] = ()) -> pa.Table:
    """Return forecasts as lists of steps, in the target's units: a row for each window.

    Args:
        target: Gives mean and standard deviation.
        decoded: `standardized` `[b, h, c]` and, where there are levels, `quantiles` `[b, h, c, q]`.
        levels: The quantiles' levels, ascending.

    Returns:
        `prediction`, and `quantile_LEVEL` beside it; of several target columns each with `_COLUMN` behind its name. Lists of float64.
    """
    several = len(target.columns) > 1
    mean, std = np.array(target.mean), np.array(target.std)
    columns = {}
    named = {"prediction": _array(decoded["standardized"])}
    if levels:
        quantiles = _array(decoded["quantiles"])
        named |= {f"quantile_{level:g}": quantiles[..., place] for place, level in enumerate(levels)}
    for name, values in named.items():
        in_units = values.astype(np.float64) * std + mean
        for place, column in enumerate(target.columns):
            flat = pa.array(in_units[:, :, place].ravel())
            offsets = pa.array(np.arange(len(in_units) + 1, dtype=np.int32) * in_units.shape[1])
            columns[f"{name}_{column}" if several else name] = pa.ListArray.from_arrays(offsets, flat)
    return pa.table(columns)


def _columns(target: TargetSpec, values: np.ndarray) -> dict[str, pa.Array]:
    return {f"probability_{name}": pa.array(values[:, place]) for place, name in enumerate(target.classes)}


def _array(values: Decoded) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else values.detach().cpu().numpy()
