"""Decoded answers as tables, with the class names in the type that the data had; without torch, as small machines have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from deepseek.data.targets import TargetSpec
from deepseek.data.targets.tags import are_spans, spans_of
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
            values; for tags `probability` `[b, n, classes]`, and with it `real`, bool `[b, n]`, where rows are of unequal length; for
            tokens `log_probability` `[b, t, ids]`; for features `features` `[b, w]`; `box` and `score` for boxes.
        selection: For boxes, which answers are given; the usual ones where not said.
    """
    if target.kind == "features":
        return embedding_table(decoded["features"])
    if target.kind == "tokens":
        return token_table(decoded["log_probability"])
    if target.kind == "tags":
        return tag_table(target, decoded["probability"], decoded.get("real"))
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


def embedding_table(embedding: Decoded) -> pa.Table:
    """Return `embedding`: each row's vector as a list of float32, for `[b, w]`."""
    values = np.ascontiguousarray(_array(embedding), dtype=np.float32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), int(values.shape[-1]))
    return pa.table({"embedding": flat.cast(pa.list_(pa.float32()))})


def token_table(log_probability: Decoded) -> pa.Table:
    """Return `prediction`: for each token of a row the id that is likeliest to come behind it, for `[b, t, ids]`."""
    values = _array(log_probability)
    best = values.argmax(axis=2) if values.size else np.zeros(values.shape[:2], dtype=np.int64)
    offsets = pa.array((np.arange(len(values) + 1) * values.shape[1]).astype(np.int32))
    return pa.table({"prediction": pa.ListArray.from_arrays(offsets, pa.array(best.reshape(-1), pa.int64()))})


def tag_table(target: TargetSpec, probability: Decoded, real: Decoded | None) -> pa.Table:
    """Return `prediction`, each row's list of tags, and `spans`, its list of `start`, `end` and `label`, where the tags say spans.

    Spans are counted in words, `end` being the one behind the last.

    Args:
        target: Gives the tags.
        probability: `[b, n, tags]`.
        real: Which words a row has, bool `[b, n]`; all where not given.
    """
    values = _array(probability)
    best = values.argmax(axis=2) if values.size else np.zeros(values.shape[:2], dtype=np.int64)
    mask = np.ones(best.shape, dtype=bool) if real is None else _array(real).astype(bool)
    offsets = pa.array(np.concatenate(([0], mask.sum(axis=1).cumsum())).astype(np.int32))
    tags = pa.ListArray.from_arrays(offsets, class_names(target).take(pa.array(best[mask])))
    if not are_spans(target.classes):
        return pa.table({"prediction": tags})
    kind = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())]))
    found = [[{"start": start, "end": end, "label": label} for start, end, label in spans_of(row)] for row in tags.to_pylist()]
    return pa.table({"prediction": tags, "spans": pa.array(found, kind)})


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
