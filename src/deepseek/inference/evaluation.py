"""Measuring a bundle on rows that have the target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from deepseek.data.batch import Batch, labelled_pieces
from deepseek.data.columns import require_columns
from deepseek.data.loader import Loader
from deepseek.data.padding import ANSWERED_BYTES, rows_of
from deepseek.data.preparation import Aside, Preparation
from deepseek.data.prepared import PreparedDataset
from deepseek.data.sources.base import Source, rooted_batches
from deepseek.data.targets.mask import MaskTarget
from deepseek.data.transforms.text_columns import joined
from deepseek.data.unknown_categories import Unknown
from deepseek.data.whole_pictures import cut_rows, whole_rows
from deepseek.data.windows.making import windows_of
from deepseek.data.windows.preparation import WindowPreparation
from deepseek.data.windows.tables import long_table
from deepseek.errors import DataError, InputError, UnknownNameError, rows_counted
from deepseek.inference.backends.base import Backend
from deepseek.inference.backends.torch import TorchBackend
from deepseek.inference.whole_measuring import WindowedBackend, WindowedModel, whole_batch
from deepseek.tasks.base import Task
from deepseek.tasks.metrics import MeanLoss
from deepseek.training.evaluation import ScoreFile, evaluate_exactly

_BATCH_ROWS = 4096
_BATCH_WINDOWS = 256


def measure_source(backend: Backend, task: Task, preparation: Preparation, *, source: Source) -> dict[str, Any]:
    """Return a backend's metrics on a source's rows: what `Predictor.evaluate` returns.

    Args:
        backend: What answers.
        task: What the metrics come from.
        preparation: The fitted preparation.
        source: The rows with their target.

    Raises:
        ColumnError: A column is missing.
        DataError: No row can be measured.
    """
    source = source.as_text(preparation.text_columns)
    _require_target(preparation, source.schema().names)
    needed = dict.fromkeys((*preparation.columns, *preparation.schema.target, *filter(None, (preparation.weight,))))
    require_columns(needed, source.schema().names, what="the model")
    rows = source.read(columns=list(needed), batch_rows=_BATCH_ROWS)
    return measure_batches(backend, task, preparation, tables=rooted_batches(rows, source.root))


def measure_batches(backend: Backend, task: Task, preparation: Preparation, *, tables: Iterator[pa.RecordBatch]) -> dict[str, Any]:
    """Return a backend's metrics on Arrow batches, as `measure_source` returns those on a source.

    Args:
        backend: What answers.
        task: What the metrics come from.
        preparation: The fitted preparation.
        tables: The rows with their target.

    Raises:
        ColumnError: A column is missing.
        DataError: No row can be measured.
    """
    counts: Counter[str] = Counter()
    unknown = Unknown()
    if preparation.target is not None and preparation.target.in_inputs:
        return _measure_text(backend, task, preparation.watched(unknown), tables, unknown)
    batches = _batches(preparation.watched(unknown), _checked(preparation, tables), counts)
    metrics = _measured(backend, task, preparation, batches)
    rows = counts.pop("rows", 0)
    if rows == 0:
        aside = ", ".join(f"{reason}: {count}" for reason, count in counts.items()) or "there is none"
        raise DataError(f"no row can be measured ({aside})", hint="give rows with the target and of classes that training knew")
    set_aside = {reason: count for reason, count in counts.items() if count}
    told = [] if preparation.target is None else preparation.target.take_left_out()
    return {"metrics": metrics, "rows": rows, "set_aside": set_aside, "warnings": [*unknown.warnings("rows"), *told]}


def _measured(backend: Backend, task: Task, preparation: Preparation, batches: Iterator[Batch]) -> dict[str, float]:
    """Return the metrics of batches, which of a segmentation may hold pictures larger than the network's size."""
    target = preparation.target
    if not isinstance(target, MaskTarget):
        return (
            evaluate_exactly(backend.model, task, batches) if isinstance(backend, TorchBackend) else measure_backend(backend, task, batches)
        )
    name, space = target.picture.inputs[0].name, target.picture.space
    if isinstance(backend, TorchBackend):
        return evaluate_exactly(WindowedModel(backend.model, name=name, space=space), task, batches)
    return measure_backend(WindowedBackend(backend, name=name, space=space), task, batches)


def _measure_text(
    backend: Backend, task: Task, preparation: Preparation, tables: Iterator[pa.RecordBatch], unknown: Unknown
) -> dict[str, Any]:
    """Return a language model's metrics on rows that are read as one text, to its last token."""
    parts = [preparation.arrays(batch) for batch, _ in preparation.other_rows(tables)]
    if not parts:
        raise DataError("there is no row to measure on", hint="give texts")
    (name,) = parts[0]
    whole = joined([part[name] for part in parts])  # type: ignore[misc]
    rows = task.measured_rows(PreparedDataset.from_arrays({name: whole}))
    batches = Loader(rows, batch_size=_BATCH_ROWS, shuffle=False).batches(0)
    if not isinstance(backend, TorchBackend):
        raise InputError("a language model is measured with the trained network itself", hint="load the run with backend='torch'")
    metrics = evaluate_exactly(backend.model, task, batches)
    return {"metrics": metrics, "rows": len(whole), "set_aside": {}, "warnings": unknown.warnings("rows")}


def measure_windows(backend: Backend, task: Task, preparation: WindowPreparation, *, source: Source) -> dict[str, Any]:
    """Return a backend's metrics on every window of a long table whose future is known, as `measure_source` returns those on rows.

    Args:
        backend: What answers.
        task: What the metrics come from.
        preparation: The fitted preparation.
        source: The steps, which are held in memory.

    Raises:
        ColumnError: A column is missing.
        DataError: There is no whole window.
    """
    source = source.as_text(preparation.text_columns)
    unknown = Unknown()
    windows = windows_of(long_table(source, preparation.rules), preparation.watched(unknown))
    batches = (
        windows.take(np.arange(start, min(start + _BATCH_WINDOWS, len(windows)))) for start in range(0, len(windows), _BATCH_WINDOWS)
    )
    measured = (
        evaluate_exactly(backend.model, task, batches) if isinstance(backend, TorchBackend) else measure_backend(backend, task, batches)
    )
    return {"metrics": measured, "rows": len(windows), "set_aside": {}, "warnings": unknown.warnings("rows")}


def _checked(preparation: Preparation, tables: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in tables:
        _require_target(preparation, batch.schema.names)
        yield batch


def _require_target(preparation: Preparation, names: Sequence[str]) -> None:
    if preparation.target is None:
        raise InputError("the model predicts no column that could be compared", hint="measure a run that has a target")
    for name in (*preparation.schema.target, *filter(None, (preparation.weight,))):
        if name not in names:
            raise UnknownNameError("column", name, names, hint="the target, and the weight where there is one, are needed to measure")


def measure_backend(backend: Backend, task: Task, batches: Iterable[Batch]) -> dict[str, float]:
    """Return a task's metrics on a backend's answers, all but the loss: a graph returns answers, and no raw outputs.

    Args:
        backend: What answers.
        task: What the metrics come from.
        batches: The rows, each once.
    """
    metrics = {name: metric for name, metric in task.metrics().items() if not isinstance(metric, MeanLoss)}
    with ScoreFile() as scores:
        for batch in batches:
            answers = backend.run({name: tensor.numpy() for name, tensor in batch.inputs.items()})
            decoded = {name: torch.from_numpy(array) for name, array in answers.items()}
            for metric in metrics.values():
                metric.update(decoded, batch)
            if "auc" in metrics:
                scores.write(decoded, batch)
        numbers = {name: metric.compute() for name, metric in metrics.items()}
        numbers |= {f"{name}_{column}": value for name, metric in metrics.items() for column, value in metric.by_column().items()}
        return numbers | ({"auc": scores.auc()} if "auc" in metrics else {})


def _batches(preparation: Preparation, tables: Iterator[pa.RecordBatch], counts: Counter[str]) -> Iterator[Batch]:
    aside = Aside()
    row_bytes = sum(int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in preparation.placed.values())
    most = max(ANSWERED_BYTES // max(row_bytes, 1), 1)
    for given, numbers in preparation.other_rows(tables, aside=aside):
        for start in range(0, given.num_rows, most):
            yield from _measurable(preparation, given.slice(start, most), numbers[start : start + most], counts)
    counts.update(aside.counts)


def _measurable(preparation: Preparation, batch: pa.RecordBatch, numbers: np.ndarray, counts: Counter[str]) -> Iterator[Batch]:
    """Yield the rows of a batch that can be measured, and count the others by what is wrong with them.

    Args:
        preparation: The fitted preparation, with its target.
        batch: Cleaned rows.
        numbers: Which of the rows given they are.
        counts: Is added to.
    """
    target = preparation.target
    assert target is not None
    unseen = target.unseen(batch)
    counts["target class unseen in training"] += int(unseen.sum())
    batch, numbers = _only(batch, numbers, ~unseen)
    if not batch.num_rows:
        return
    try:
        with rows_counted(numbers):
            arrays, targets = preparation.arrays(batch), target.apply(batch)
    except DataError:
        unread, unlabelled = preparation.unreadable(batch), target.bad(batch)
        counts["input cannot be read"] += int(unread.sum())
        counts["target cannot be read"] += int((unlabelled & ~unread).sum())
        if not (unread | unlabelled).any():
            raise
        batch, numbers = _only(batch, numbers, ~(unread | unlabelled))
        if not batch.num_rows:
            return
        arrays, targets = preparation.arrays(batch), target.apply(batch)
    counts["rows"] += batch.num_rows
    with rows_counted(numbers):
        weight = preparation.weights(batch)
    cut = cut_rows(preparation, batch)
    if cut.any():
        yield from _wholes(preparation, batch.filter(pa.array(cut)))
        arrays, targets = (rows_of(held, np.flatnonzero(~cut)) for held in (arrays, targets))
        weight = None if weight is None else weight[~cut]
    for rows, inputs, truth in labelled_pieces(arrays, targets):
        part = slice(None) if rows is None else rows
        yield Batch(inputs, truth, weight=None if weight is None else torch.from_numpy(weight[part]))


def _only(batch: pa.RecordBatch, numbers: np.ndarray, keep: np.ndarray) -> tuple[pa.RecordBatch, np.ndarray]:
    return (batch, numbers) if keep.all() else (batch.filter(pa.array(keep)), numbers[keep])


def _wholes(preparation: Preparation, batch: pa.RecordBatch) -> Iterator[Batch]:
    """Yield rows that are larger than the network's size, one at a time."""
    weight = preparation.weights(batch)
    (name,) = [spec.name for transform in preparation.transforms for spec in transform.inputs]
    for place, whole in enumerate(whole_rows(preparation, batch, np.arange(batch.num_rows))):
        yield whole_batch(whole, name=name, weight=None if weight is None else torch.from_numpy(weight[place : place + 1]))
