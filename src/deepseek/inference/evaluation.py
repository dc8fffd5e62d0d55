"""Measuring a bundle on rows that have the target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import torch

from deepseek.data.batch import Batch, in_pieces
from deepseek.data.preparation import Aside, Preparation
from deepseek.data.sources.base import Source, rooted_batches
from deepseek.data.unknown_categories import Unknown
from deepseek.errors import DataError, InputError, UnknownNameError
from deepseek.tasks.model import TaskModel
from deepseek.training.evaluation import evaluate_exactly

_BATCH_ROWS = 4096


def measure_source(model: TaskModel, preparation: Preparation, source: Source) -> dict[str, Any]:
    """Return a model's metrics on a source's rows: what `Predictor.evaluate` returns.

    Args:
        model: The trained network with its task.
        preparation: The fitted preparation.
        source: The rows with their target.

    Raises:
        ColumnError: A column is missing.
        DataError: No row can be measured.
    """
    if preparation.target is None:
        raise InputError("the model predicts no column that could be compared", hint="measure a run that has a target")
    source, names = source.as_text(preparation.text_columns), source.schema().names
    for name in (*preparation.schema.target, *filter(None, (preparation.weight,))):
        if name not in names:
            raise UnknownNameError("column", name, names, hint="the target, and the weight where there is one, are needed to measure")
    counts: Counter[str] = Counter()
    unknown = Unknown()
    batches = _batches(preparation.watched(unknown), rooted_batches(source.read(batch_rows=_BATCH_ROWS), source.root), counts)
    metrics = evaluate_exactly(model, model.task, batches)
    rows = counts.pop("rows", 0)
    if rows == 0:
        aside = ", ".join(f"{reason}: {count}" for reason, count in counts.items()) or "there is none"
        raise DataError(f"no row can be measured ({aside})", hint="give rows with the target and of classes that training knew")
    set_aside = {reason: count for reason, count in counts.items() if count}
    return {"metrics": metrics, "rows": rows, "set_aside": set_aside, "warnings": unknown.warnings("rows")}


def _batches(preparation: Preparation, tables: Iterator[pa.RecordBatch], counts: Counter[str]) -> Iterator[Batch]:
    target = preparation.target
    assert target is not None
    aside = Aside()
    for given, _ in preparation.other_rows(tables, aside=aside):
        unseen = target.unseen(given)
        counts["target class unseen in training"] += int(unseen.sum())
        batch = given.filter(pa.array(~unseen)) if unseen.any() else given
        if not batch.num_rows:
            continue
        try:
            arrays = preparation.arrays(batch)
        except DataError:
            readable = ~preparation.unreadable(batch)
            counts["input cannot be read"] += int((~readable).sum())
            if readable.all():
                raise
            batch = batch.filter(pa.array(readable))
            if not batch.num_rows:
                continue
            arrays = preparation.arrays(batch)
        counts["rows"] += batch.num_rows
        weight, targets = preparation.weights(batch), target.apply(batch)
        for rows, inputs in in_pieces(arrays):
            part = slice(None) if rows is None else rows
            yield Batch(
                inputs,
                {name: torch.from_numpy(array[part]) for name, array in targets.items()},
                weight=None if weight is None else torch.from_numpy(weight[part]),
            )
    counts.update(aside.counts)
