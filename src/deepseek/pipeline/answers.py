"""Asking a finished run: predictions for a file, metrics on a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import torch

from deepseek import progress
from deepseek.artifacts import Bundle, plain_disk_errors
from deepseek.data.batch import Batch
from deepseek.data.preparation import Preparation
from deepseek.data.sources import open_source
from deepseek.distributed import RankContext
from deepseek.errors import DataError, InputError, UnknownNameError
from deepseek.inference import Predictor
from deepseek.inference.backends.torch import TorchBackend
from deepseek.pipeline.fitting import Scores
from deepseek.training import evaluate as evaluate_batches


class _Writer(Protocol):
    def write_batch(self, batch: pa.RecordBatch) -> None: ...


FORMATS = (".csv", ".parquet", ".arrow", ".feather", ".jsonl")


def predict(run: str | PathLike[str], source: Any, output: str | PathLike[str]) -> dict[str, Any]:
    """Answer every row of a source and write the answers to a file, in bounded memory.

    Args:
        run: A run's folder or a bundle.
        source: The rows: a path or a table, as for `train`; it may have more columns than needed.
        output: Where to write; the suffix says the format: `.csv`, `.parquet`, `.arrow`, `.jsonl`. An existing file is replaced, once all
            answers are there.

    Returns:
        `output`, the file, and `rows`, how many answers are in it, in the order of the source.

    Raises:
        ColumnError: A column that the model needs is missing.
        InputError: The format is unknown.
    """
    target = Path(output)
    if target.suffix not in FORMATS:
        raise UnknownNameError("format of predictions", target.suffix or target.name, FORMATS)
    predictor = Predictor.load(Path(run))
    rows = 0
    partial = target.with_name(f".{target.name}.part")
    try:
        with plain_disk_errors(target), ExitStack() as stack, progress.task("predicting") as advance:
            target.parent.mkdir(parents=True, exist_ok=True)
            writer: _Writer | None = None
            for batch in predictor.stream(open_source(source)):
                writer = writer or stack.enter_context(_writer(partial, target.suffix, batch.schema))
                writer.write_batch(batch)
                rows += batch.num_rows
                advance(batch.num_rows)
        if rows == 0:
            raise DataError("there is no row to answer", hint="the source is empty")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return {"output": str(target), "rows": rows}


def evaluate(run: str | PathLike[str], source: Any) -> dict[str, Any]:
    """Measure a run's model on the rows of a source that has the target.

    Args:
        run: A run's folder or a bundle.
        source: The rows with their target: a path or a table.

    Returns:
        `metrics` by name, `rows` measured, and `set_aside`: rows without a target or of a class that training did not know, by reason.

    Raises:
        ColumnError: A column is missing.
        DataError: No row can be measured.
    """
    bundle = Bundle.open(Path(run))
    preparation = Preparation.from_json(bundle.read("data.json"))
    if preparation.target is None:
        raise InputError(f"{bundle.path} predicts no column that could be compared")
    model = TorchBackend(bundle).model
    opened = open_source(source)
    Predictor.load(Path(run)).require_columns(opened.schema().names)
    for name in preparation.schema.target:
        if name not in opened.schema().names:
            raise UnknownNameError("column", name, opened.schema().names, hint="the target is needed to measure")
    counts = {"rows": 0, "missing": 0, "unseen": 0}
    scores = Scores() if model.task.kind == "binary" else None
    batches = _batches(preparation, opened.read(batch_rows=4096), counts)
    metrics = evaluate_batches(model, model.task, batches, spill=scores, context=RankContext())
    if counts["rows"] == 0:
        raise DataError(f"no row can be measured: {counts['missing']} lack a target, {counts['unseen']} are of a class unknown in training")
    if scores is not None:
        metrics["auc"] = scores.auc()
    aside = {"target missing": counts["missing"], "target class unseen in training": counts["unseen"]}
    return {"metrics": metrics, "rows": counts["rows"], "set_aside": {reason: count for reason, count in aside.items() if count}}


def _batches(preparation: Preparation, tables: Iterator[pa.RecordBatch], counts: dict[str, int]) -> Iterator[Batch]:
    target = preparation.target
    assert target is not None
    for table in tables:
        batch = table
        for cleaner in preparation.cleaners:
            batch = cleaner.apply(batch)
        missing = target.missing(batch)
        unseen = np.zeros(len(missing), dtype=bool)
        if not missing.all():
            unseen[~missing] = target.unseen(batch.filter(pa.array(~missing)))
        counts["missing"] += int(missing.sum())
        counts["unseen"] += int(unseen.sum())
        keep = ~(missing | unseen)
        if not keep.any():
            continue
        batch = batch.filter(pa.array(keep))
        counts["rows"] += batch.num_rows
        arrays = preparation.apply(table.filter(pa.array(keep)))
        inputs = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        yield Batch(inputs, {name: torch.from_numpy(array) for name, array in target.apply(batch).items()})


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
