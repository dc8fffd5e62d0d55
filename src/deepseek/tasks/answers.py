"""Decoded answers as tables, with the class names in the type that the data had; without torch, as small machines have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from deepseek.data.targets import TargetSpec
from deepseek.errors import InputError
from deepseek.tasks.box_answers import Selection, box_table

if TYPE_CHECKING:
    from torch import Tensor

    Decoded = Tensor | np.ndarray

LABEL_THRESHOLD = 0.5


def answer_table(target: TargetSpec, decoded: Mapping[str, Decoded], *, selection: Selection | None = None) -> pa.Table:
    """Turn what a task's `decode` returned, as tensors or arrays, into a table: the answer of every built-in task.

    Args:
        target: What is predicted.
        decoded: `probability` `[b, classes]` for classes and labels, `[b, classes, *space]` for masks, `standardized` `[b, columns]` for
            values, `box` and `score` for boxes.
        selection: For boxes, which answers are given; the usual ones where not said.
    """
    if target.kind == "boxes":
        return box_table(target, {name: _array(values) for name, values in decoded.items()}, selection or Selection())
    if target.kind == "values":
        return value_table(target, decoded["standardized"])
    if target.kind == "mask":
        codes = _array(decoded["probability"]).argmax(axis=1)
        return mask_table(target, list(codes))
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


def mask_table(target: TargetSpec, codes: Sequence[np.ndarray]) -> pa.Table:
    """Return `prediction`: each row's mask as `data`, its numbers one after the other, and `shape`; the masks may be of unequal size.

    Args:
        target: Gives the numbers that stand for the classes in masks.
        codes: Codes of classes from 0, `[*space]` each.
    """
    numbers = np.array([int(name) for name in target.classes])
    numbers = numbers.astype("uint8" if numbers.max() < 1 << 8 else "uint16" if numbers.max() < 1 << 16 else "int64")
    flat = [numbers[mask].reshape(-1) for mask in codes]
    data = _lists(np.concatenate(flat) if flat else numbers[:0], list(map(len, flat)))
    shapes = _lists(np.array([side for mask in codes for side in mask.shape], dtype=np.int32), [mask.ndim for mask in codes])
    return pa.table({"prediction": pa.StructArray.from_arrays([data, shapes], ["data", "shape"])})


def masks_in(answers: pa.Table) -> list[np.ndarray]:
    """Return the masks of a table of answers, each in the size of its picture.

    Args:
        answers: What `Predictor.predict` returned for a segmentation, as an Arrow table.

    Raises:
        InputError: The answers are no masks.
    """
    kind = answers.schema.field("prediction").type if "prediction" in answers.column_names else pa.null()
    if not pa.types.is_struct(kind) or [field.name for field in kind] != ["data", "shape"]:
        raise InputError(f"the answers hold {', '.join(answers.column_names)}", hint="masks come from a model whose task is segmentation")
    masks = []
    for chunk in answers["prediction"].chunks:
        data, shapes = chunk.field("data"), chunk.field("shape")
        masks += [data[row].values.to_numpy().reshape(shapes[row].as_py()) for row in range(len(chunk))]
    return masks


def _lists(values: np.ndarray, lengths: list[int]) -> pa.Array:
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))


def _columns(target: TargetSpec, values: np.ndarray) -> dict[str, pa.Array]:
    return {f"probability_{name}": pa.array(values[:, place]) for place, name in enumerate(target.classes)}


def _array(values: Decoded) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else values.detach().cpu().numpy()
