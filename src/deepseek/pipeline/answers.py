"""Asking a finished run: predictions for a file, metrics on a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import torch

from deepseek import progress
from deepseek.artifacts import plain_disk_errors
from deepseek.data.batch import Batch
from deepseek.data.preparation import Aside, Preparation
from deepseek.data.sources import open_source
from deepseek.data.unknown import Unknown
from deepseek.distributed import RankContext
from deepseek.errors import DataError, InputError, UnknownNameError
from deepseek.inference import Predictor
from deepseek.inference.backends.torch import TorchBackend, read_preparation
from deepseek.pipeline.fitting import Scores
from deepseek.training import evaluate as evaluate_batches


class _Writer(Protocol):
    def write_batch(self, batch: pa.RecordBatch) -> None: ...


FORMATS = (".csv", ".parquet", ".arrow", ".feather", ".jsonl")


def predict(run: str | PathLike[str], source: Any, output: str | PathLike[str], *, plugins: Sequence[str] = ()) -> dict[str, Any]:
    """Answer every row of a source and write the answers to a file, in bounded memory.

    Args:
        run: A run's folder or a bundle.
        source: The rows: a path or a table, as for `train`; it may have more columns than needed.
        output: Where to write; the suffix says the format: `.csv`, `.parquet`, `.arrow`, `.jsonl`. An existing file is replaced, once all
            answers are there. CSV has no lists: the labels of a row are joined as texts of labels are given.
        plugins: The files or modules of the plugins that the bundle needs.

    Returns:
        `output`, the file, `rows`, how many answers are in it, in the order of the source, and `warnings`: columns many of whose values
        training did not know.

    Raises:
        ColumnError: A column that the model needs is missing.
        InputError: The format is unknown.
        DataError: The file is to be CSV, and a label contains what stands between labels.
    """
    target = Path(output)
    if target.is_dir():
        raise InputError(f"the file for the answers, {str(target)!r}, is a folder", hint="name a file, such as answers.csv")
    if target.suffix not in FORMATS:
        raise UnknownNameError("format of predictions", target.suffix or target.name, FORMATS)
    predictor = Predictor.load(Path(run), plugins=plugins)
    rows, unknown = 0, Unknown()
    partial = target.with_name(f".{target.name}.part")
    try:
        with plain_disk_errors(target), ExitStack() as stack, progress.task("predicting") as advance:
            target.parent.mkdir(parents=True, exist_ok=True)
            writer: _Writer | None = None
            for batch in predictor.stream(open_source(source), unknown=unknown):
                answers = _joined(batch, predictor.separator) if target.suffix == ".csv" else batch
                writer = writer or stack.enter_context(_writer(partial, target.suffix, answers.schema))
                writer.write_batch(answers)
                rows += batch.num_rows
                advance(batch.num_rows)
        if rows == 0:
            raise DataError("there is no row to answer", hint="the source is empty")
        with plain_disk_errors(target):
            partial.replace(target)
    finally:
        if partial.exists():
            partial.unlink()
    return {"output": str(target), "rows": rows, "warnings": unknown.warnings("rows")}


def evaluate(run: str | PathLike[str], source: Any, *, plugins: Sequence[str] = ()) -> dict[str, Any]:
    """Measure a run's model on the rows of a source that has the target.

    Args:
        run: A run's folder or a bundle.
        source: The rows with their target: a path or a table.
        plugins: The files or modules of the plugins that the bundle needs.

    Returns:
        `metrics` by name, `rows` measured, `set_aside`: how many rows have no target, are of a class that training did not know, or hold
        an image that cannot be read, by reason, and `warnings`: columns many of whose values training did not know.

    Raises:
        ColumnError: A column is missing.
        DataError: No row can be measured.
    """
    predictor = Predictor.load(Path(run), plugins=plugins)
    bundle = predictor.bundle
    preparation = read_preparation(bundle)
    if preparation.target is None:
        raise InputError(f"{bundle.path} predicts no column that could be compared", hint="measure a run that has a target")
    model = TorchBackend(bundle).model
    opened = open_source(source).as_text(preparation.text_columns)
    predictor.require_columns(opened.schema().names)
    for name in (*preparation.schema.target, *filter(None, (preparation.weight,))):
        if name not in opened.schema().names:
            raise UnknownNameError(
                "column", name, opened.schema().names, hint="the target, and the weight where there is one, are needed to measure"
            )
    counts: Counter[str] = Counter()
    scores = Scores() if model.task.kind == "binary" else None
    unknown = Unknown()
    batches = _batches(preparation.watched(unknown), opened.read(batch_rows=4096), counts)
    metrics = evaluate_batches(model, model.task, batches, spill=scores, context=RankContext())
    rows = counts.pop("rows", 0)
    if rows == 0:
        aside = ", ".join(f"{reason}: {count}" for reason, count in counts.items()) or "there is none"
        raise DataError(f"no row can be measured ({aside})", hint="give rows with the target and of classes that training knew")
    if scores is not None:
        metrics["auc"] = scores.auc()
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
        inputs = {name: torch.from_numpy(np.require(array, requirements=["C", "W"])) for name, array in arrays.items()}
        weight = preparation.weights(batch)
        targets = {name: torch.from_numpy(array) for name, array in target.apply(batch).items()}
        yield Batch(inputs, targets, weight=None if weight is None else torch.from_numpy(weight))
    counts.update(aside.counts)


def _joined(batch: pa.RecordBatch, separator: str) -> pa.RecordBatch:
    """Return the batch with its lists of labels as texts."""
    for place, column in enumerate(batch.columns):
        if pa.types.is_list(column.type):
            labels = pc.cast(column, pa.list_(pa.string()))
            if pc.any(pc.match_substring(labels.flatten(), separator)).as_py():
                raise DataError(f"a label contains {separator!r}, which stands between labels in CSV", hint="write .jsonl or .parquet")
            batch = batch.set_column(place, batch.schema.names[place], pc.binary_join(labels, separator))
    return batch


def _writer(path: Path, suffix: str, schema: pa.Schema) -> Any:
    if suffix == ".csv":
        return pa.csv.CSVWriter(str(path), schema)
    if suffix == ".parquet":
        return pa.parquet.ParquetWriter(str(path), schema)
    if suffix == ".jsonl":
        return _JsonLines(path)
    return pa.ipc.new_file(str(path), schema)


class _JsonLines:
    """Writes Arrow batches as JSON Lines, through polars."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write_batch(self, batch: pa.RecordBatch) -> None:
        import polars as pl

        frame = pl.from_arrow(pa.Table.from_batches([batch]))
        assert isinstance(frame, pl.DataFrame)
        frame.write_ndjson(self._file)

    def __enter__(self) -> _JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
