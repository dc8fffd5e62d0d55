"""A finished run's answers to every row of a file, written to another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from deepseek import progress
from deepseek.artifacts import plain_disk_errors
from deepseek.data.sources.base import rooted_batches
from deepseek.data.unknown_categories import Unknown
from deepseek.errors import DataError, InputError, UnknownNameError
from deepseek.inference import Predictor
from deepseek.inference.tables import skipped_files
from deepseek.pipeline.mask_files import MaskWriter
from deepseek.pipeline.table_files import FORMATS, TableWriter, require_format, table_writer
from deepseek.tasks.answers import masks_in

if TYPE_CHECKING:
    from deepseek.data.sources.base import Source

MASK_ROWS = 16


def predict(
    run: str | PathLike[str], source: Any, output: str | PathLike[str], *, tiles: Any = None, plugins: Sequence[str] = ()
) -> dict[str, Any]:
    """Answer every row of a source and write the answers to a file, in bounded memory.

    Args:
        run: A run's folder or a bundle.
        source: The rows: a path or a table, as for `train`; it may have more columns than needed. For a model whose only input is an
            image or a text also the files themselves: one, several in a list, a pattern, or a folder; the answers then have the column
            `file`.
        output: Where to write; the suffix says the format: `.csv`, `.parquet`, `.arrow`, `.jsonl`. An existing file is replaced, once all
            answers are there. CSV has no lists: the labels of a row are joined as texts of labels are given, boxes are JSON. A path without
            a suffix is a folder, for the masks of a segmentation: PNG for images, `.nii.gz` for volumes, each called as its picture.
        tiles: For a detector, the size in pixels of overlapping tiles that large pictures are cut into, or a mapping with `size` and
            `overlap`.
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
    if not target.suffix:
        return _masks_to_folder(run, source, target, plugins=plugins)
    require_format(target, what="the answers")
    predictor = Predictor.load(run, plugins=plugins)
    if predictor.answers_masks and target.suffix == ".csv":
        raise InputError("masks are to be written as CSV", hint="name a folder for a picture each, or a file .parquet, .arrow or .jsonl")
    rows, unknown = 0, Unknown()
    opened = predictor.open(source)
    partial = target.with_name(f".{target.name}.part")
    try:
        with (
            plain_disk_errors(target),
            ExitStack() as stack,
            progress.collected_warnings() as said,
            progress.task("predicting") as advance,
        ):
            target.parent.mkdir(parents=True, exist_ok=True)
            writer: TableWriter | None = None
            for batch in predictor.stream(opened, unknown=unknown, tiles=tiles):
                answers = _joined(batch, predictor.separator) if target.suffix == ".csv" else batch
                writer = writer or stack.enter_context(table_writer(partial, target.suffix, answers.schema))
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
    return {"output": str(target), "rows": rows, "warnings": [*said, *skipped_files(opened), *_unread(opened), *unknown.warnings("rows")]}


def _masks_to_folder(run: str | PathLike[str], source: Any, folder: Path, *, plugins: Sequence[str]) -> dict[str, Any]:
    predictor = Predictor.load(run, plugins=plugins)
    if not predictor.answers_masks:
        raise UnknownNameError("format of predictions", folder.name, FORMATS, hint="only masks are written to a folder")
    opened, writer = predictor.open(source), MaskWriter(folder)
    (column,) = predictor.columns
    with progress.task("predicting") as advance:
        for rows in rooted_batches(opened.read(columns=predictor.columns, batch_rows=MASK_ROWS), opened.root):
            writer.write(masks_in(predictor.answer(rows)), rows, column)
            advance(rows.num_rows)
    if not writer.written:
        raise DataError("there is no row to answer", hint="the source is empty")
    return {"output": str(folder), "rows": writer.written, "warnings": [*skipped_files(opened), *_unread(opened)]}


def _unread(source: Source) -> list[str]:
    """Say how many rows have no answer since the source could not read them, where there are such."""
    batches = [batch for batch in source.rejects() if batch.num_rows]
    if not batches:
        return []
    reason, line = batches[0].column("reason")[0].as_py(), batches[0].column("line")[0].as_py()
    count = sum(batch.num_rows for batch in batches)
    return [f"{count} rows could not be read and have no answer; the first is line {line}: {reason}"]


def _joined(batch: pa.RecordBatch, separator: str) -> pa.RecordBatch:
    """Return the batch with its lists of labels as texts, and lists of boxes as JSON."""
    for place, column in enumerate(batch.columns):
        if pa.types.is_list(column.type) and pa.types.is_struct(column.type.value_type):
            texts = pa.array([json.dumps(value, ensure_ascii=False) for value in column.to_pylist()], pa.string())
            batch = batch.set_column(place, batch.schema.names[place], texts)
        elif pa.types.is_list(column.type):
            labels = pc.cast(column, pa.list_(pa.string()))
            if pc.any(pc.match_substring(labels.flatten(), separator)).as_py():
                raise DataError(f"a label contains {separator!r}, which stands between labels in CSV", hint="write .jsonl or .parquet")
            batch = batch.set_column(place, batch.schema.names[place], pc.binary_join(labels, separator))
    return batch
