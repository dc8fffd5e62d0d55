"""Labelled rows and rows that a model has labelled as one prepared dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deepseek.data.loader import rows_within
from deepseek.data.prepared import Column, PreparedDataset, PreparedWriter
from deepseek.data.transforms.base import Array

_BATCH = 16_384
_TARGET = "target"
_WEIGHT = "weight"


@dataclass(frozen=True)
class PseudoLabels:
    """What a model says of rows without a label.

    Attributes:
        rows: Which prepared rows, ascending, int64 `[m]`.
        labels: The class of each, int64 `[m]`.
        weights: What each weighs beside a labelled row, float32 `[m]`.
        shares: The probabilities of all classes, float32 `[m, classes]`, where rows are to be learned with those.
    """

    rows: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    shares: np.ndarray | None = None


def join_labelled(
    folder: Path, labelled: PreparedDataset, unlabelled: PreparedDataset, *, given: PseudoLabels, classes: int
) -> PreparedDataset:
    """Write the labelled rows and, behind them, the rows that a model has labelled.

    Both must come from one fitted preparation, so that the arrays mean the same; nothing of it is fitted anew. The source row of a row
    without a label is written as `-1 - row`: it stands in no table of labelled ones.

    Args:
        folder: Where the dataset goes.
        labelled: The labelled training rows.
        unlabelled: Rows of the same inputs, without a target.
        given: Their labels.
        classes: How many classes there are.

    Raises:
        RunError: The folder cannot be written.
    """
    target = next(column for column in labelled.layout if column.role == _TARGET)
    soft = given.shares is not None
    if soft:
        shape = () if target.dtype == "float32" else (classes,)  # of two classes the second one's share is one number
        target = replace(target, dtype="float32", shape=shape)
    weight = _weight_name(labelled)
    weighted = any(column.role == _WEIGHT for column in labelled.layout) or bool((given.weights != 1).any())
    layout = [target if column.role == _TARGET else column for column in labelled.layout if column.role != _WEIGHT]
    if weighted:
        layout.append(Column(weight, "weight", "float32"))
    rows = len(labelled) + len(given.rows)
    with PreparedWriter(folder, tuple(layout), inputs=labelled.inputs, rows=rows) as writer:
        for places, arrays in _arrays(labelled, np.arange(len(labelled))):
            known = arrays.get(_TARGET)
            assert isinstance(known, np.ndarray)
            if soft and target.shape:
                known = np.eye(classes, dtype=np.float32)[known]
            arrays[_TARGET] = known.astype(target.dtype, copy=False)
            if weighted:
                arrays.setdefault(weight, np.ones(len(places), np.float32))
            writer.append(arrays, labelled.source_numbers(places))
        start = 0
        for places, arrays in _arrays(unlabelled, given.rows):
            part = slice(start, start + len(places))
            arrays[_TARGET] = _targets(given, part, target)
            if weighted:
                arrays[weight] = given.weights[part].astype(np.float32)
            writer.append(arrays, -1 - unlabelled.source_numbers(places))
            start = part.stop
    return PreparedDataset.open(folder)


def _weight_name(data: PreparedDataset) -> str:
    """Return the name of the array of weights: its own, or one that no input has."""
    name = next((column.name for column in data.layout if column.role == _WEIGHT), _WEIGHT)
    while name in data.inputs:
        name += "_"
    return name


def _targets(given: PseudoLabels, part: slice, target: Column) -> np.ndarray:
    if given.shares is None:
        return np.asarray(given.labels[part].astype(target.dtype))
    shares = given.shares[part].astype(np.float32)
    return shares if target.shape else np.ascontiguousarray(shares[:, 1])


def _arrays(data: PreparedDataset, rows: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, Array]]]:
    """Yield rows in order, as `PreparedWriter.append` takes them; memory holds a batch."""
    ragged = [column.name for column in data.layout if column.ragged]
    size = rows_within(data, _BATCH)
    for start in range(0, len(rows), size):
        places = rows[start : start + size]
        batch = data.take(places, ragged=False)
        arrays: dict[str, Array] = {name: tensor.numpy() for name, tensor in {**batch.inputs, **batch.targets}.items()}
        if batch.weight is not None:
            arrays[_weight_name(data)] = batch.weight.numpy()
        yield places, arrays | {name: data.ragged(name, places) for name in ragged}
