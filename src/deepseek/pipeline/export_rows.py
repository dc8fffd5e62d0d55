"""The rows that an export is compared, and calibrated, on: out of the run's own data, or out of a source that is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.artifacts import Bundle
from deepseek.data.landing import LandedTable
from deepseek.data.sources import open_source
from deepseek.data.sources.base import rooted_batches
from deepseek.data.windows.dataset import WindowDataset
from deepseek.data.windows.making import windows_of
from deepseek.data.windows.preparation import WindowPreparation
from deepseek.data.windows.tables import is_long, window_rows
from deepseek.errors import BundleError, DataError, InputError
from deepseek.exporters.original import Rows
from deepseek.inference.predictor import Predictor
from deepseek.pipeline.analysis.finished import FinishedRun
from deepseek.pipeline.analysis.predictions import sample_of
from deepseek.pipeline.preparing.sources import source_changed

MOST_ROWS = 2000
"""The most rows that an export is compared on."""
_BATCH_ROWS = 256
_ROWS = "give rows to compare on with --rows FILE"
_CALIBRATE = "give training rows: deepseek compress --calibrate FILE, in Python calibrate=ROWS"


def rows_to_compare(bundle: Bundle, rows: Any) -> Rows:
    """Return what gives the rows that both are asked: a source's, or the validation rows of the bundle's run.

    Where the run has none, its test rows are taken, and where it has neither, training rows.

    Args:
        bundle: The bundle that is exported.
        rows: A path or a table, or nothing for the run's own.

    Raises:
        InputError: The bundle belongs to no run, or the run's rows cannot be had.
    """
    if rows is not None:
        return _given(bundle, rows, MOST_ROWS)
    return _own(bundle, ("validation", "test", "train"), most=MOST_ROWS, hint=_ROWS)


def rows_to_calibrate(bundle: Bundle, rows: Any, most: int) -> Rows:
    """Return what gives the rows on which ranges are measured: a source's, or a sample of the training rows of the bundle's run.

    Args:
        bundle: The bundle that is exported.
        rows: A path or a table, or nothing for the run's own.
        most: How many.

    Raises:
        InputError: The bundle belongs to no run, or the run's rows cannot be had.
    """
    return _given(bundle, rows, most) if rows is not None else _own(bundle, ("train",), most=most, hint=_CALIBRATE)


def _given(bundle: Bundle, rows: Any, most: int) -> Rows:
    predictor = Predictor.load(bundle.path, backend="torch")
    source = open_source(rows).as_text(predictor.preparation.text_columns)
    preparation = predictor.preparation
    if isinstance(preparation, WindowPreparation) and is_long(source.schema(), preparation.rules):
        return _windows_given(pa.Table.from_batches(source.read(), source.schema()), preparation, most)
    predictor.require_columns(source.schema().names)

    def batches() -> Iterator[pa.RecordBatch]:
        left = most
        for batch in rooted_batches(source.read(batch_rows=_BATCH_ROWS), source.root):
            yield batch.slice(0, left)
            left -= batch.num_rows
            if left <= 0:
                return

    return batches


def _windows_given(table: pa.Table, preparation: WindowPreparation, most: int) -> Rows:
    """Return what gives windows of a long table as rows."""
    windows = windows_of(table, preparation)
    return _window_batches(windows, sample_of(len(windows), most, 0), preparation, lambda name: table[name])


def _window_batches(
    windows: WindowDataset, places: np.ndarray, preparation: WindowPreparation, column: Callable[[str], pa.ChunkedArray]
) -> Rows:
    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(places), _BATCH_ROWS):
            yield window_rows(column, windows.steps, windows.starts[places[start : start + _BATCH_ROWS]], preparation=preparation)

    return batches


def _own(bundle: Bundle, splits: tuple[str, ...], *, most: int, hint: str) -> Rows:
    """Return what gives rows of the first of the splits that there is, as they were read."""
    try:
        run = FinishedRun.open(bundle.path)
    except BundleError:
        raise InputError(f"{bundle.path} belongs to no run, whose {splits[0]} rows could be asked", hint=hint) from None
    try:
        if source_changed(run.recipe, run.data):
            raise InputError("the source has changed since the run", hint=hint)
        dataset = run.dataset()
    except DataError as error:
        raise InputError(f"the rows of the run cannot be had here: {error.message}", hint=hint) from error
    split = next(name for name in splits if dataset.open(name) is not None)
    data = dataset.open(split)
    assert data is not None
    places = sample_of(len(data), most, run.recipe.seed)
    preparation = dataset.preparation()
    if isinstance(data, WindowDataset) and isinstance(preparation, WindowPreparation):
        return _window_batches(data, places, preparation, LandedTable.open(dataset.landed["source"]).column)
    table = LandedTable.open(dataset.landed["test" if split == "test" and "test" in dataset.landed else "source"])
    return lambda: table.batches(rows=np.sort(data.source_numbers(places)), batch_rows=_BATCH_ROWS)
