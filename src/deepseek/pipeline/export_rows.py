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
from deepseek.statistics.sample import mix64

MOST_ROWS = 2000
"""The most rows that an export is compared on; of more they are a sample."""
_BATCH_ROWS = 256
_ROWS = "give rows to compare on with --rows FILE"
_CALIBRATE = "give training rows: deepseek compress --calibrate FILE, in Python calibrate=ROWS"


def rows_to_compare(bundle: Bundle, rows: Any) -> tuple[Rows, str | None]:
    """Return what gives the rows that both are asked, a source's or the validation rows of the run, and which of the run's they are.

    Where the run has none, its test rows are taken, and where it has neither, training rows. Of many rows a sample is taken.

    Args:
        bundle: The bundle that is exported.
        rows: A path or a table, or nothing for the run's own.

    Returns:
        The rows; and `validation`, `test` or `train`, or nothing for a source's.

    Raises:
        InputError: The bundle belongs to no run, or the run's rows cannot be had.
    """
    if rows is not None:
        return _given(bundle, rows, MOST_ROWS), None
    return _own(bundle, ("validation", "test", "train"), most=MOST_ROWS, hint=_ROWS)


def rows_to_calibrate(bundle: Bundle, rows: Any, most: int) -> Rows:
    """Return what gives the rows on which ranges are measured: a source's, or a sample of the training rows of the bundle's run.

    Args:
        bundle: The bundle that is exported.
        rows: A path or a table, or nothing for the run's own.
        most: How many; of more a sample is taken.

    Raises:
        InputError: The bundle belongs to no run, or the run's rows cannot be had.
    """
    return _given(bundle, rows, most) if rows is not None else _own(bundle, ("train",), most=most, hint=_CALIBRATE)[0]


def _given(bundle: Bundle, rows: Any, most: int) -> Rows:
    predictor = Predictor.load(bundle.path, backend="torch")
    source = open_source(rows).as_text(predictor.preparation.text_columns)
    preparation = predictor.preparation
    if isinstance(preparation, WindowPreparation) and is_long(source.schema(), preparation.rules):
        return _windows_given(pa.Table.from_batches(source.read(), source.schema()), preparation, most)
    predictor.require_columns(source.schema().names)
    held = _sampled(rooted_batches(source.read(batch_rows=_BATCH_ROWS), source.root), most)
    return lambda: iter(held)


def _sampled(batches: Iterator[pa.RecordBatch], most: int) -> list[pa.RecordBatch]:
    """Return at most so many rows, in their order: a uniform sample, as the first rows of a file that is sorted are of one kind.

    Each row's key hangs on its place alone, and those with the smallest keys stay (bottom-k sampling: Cohen and Kaplan, "Summarizing data
    using bottom-k sketches", PODC 2007).
    """
    held: list[tuple[pa.RecordBatch, np.ndarray]] = []
    seen, bar = 0, np.uint64(np.iinfo(np.uint64).max)
    for batch in batches:
        keys = mix64(np.arange(seen, seen + batch.num_rows, dtype=np.uint64), 0)
        seen += batch.num_rows
        held.append(_below(batch, keys, bar))
        if sum(len(own) for _, own in held) > 2 * most:
            held, bar = _least(held, most)
    if seen <= most:
        return [batch for batch, _ in held]
    held, _ = _least(held, most)
    return list(pa.Table.from_batches([batch for batch, _ in held]).combine_chunks().to_batches(max_chunksize=_BATCH_ROWS))


def _least(held: list[tuple[pa.RecordBatch, np.ndarray]], most: int) -> tuple[list[tuple[pa.RecordBatch, np.ndarray]], np.uint64]:
    """Return those so many rows whose keys are smallest, with their keys, and the largest of these."""
    bar = np.partition(np.concatenate([keys for _, keys in held]), most - 1)[most - 1]
    return [_below(batch, keys, bar) for batch, keys in held], bar


def _below(batch: pa.RecordBatch, keys: np.ndarray, bar: np.uint64) -> tuple[pa.RecordBatch, np.ndarray]:
    chosen = keys <= bar
    return (batch, keys) if chosen.all() else (batch.filter(pa.array(chosen)), keys[chosen])


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


def _own(bundle: Bundle, splits: tuple[str, ...], *, most: int, hint: str) -> tuple[Rows, str]:
    """Return what gives rows of the first of the splits that there is, as they were read, and that split's name."""
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
        return _window_batches(data, places, preparation, LandedTable.open(dataset.landed["source"]).column), split
    table = LandedTable.open(dataset.landed["test" if split == "test" and "test" in dataset.landed else "source"])
    return lambda: table.batches(rows=np.sort(data.source_numbers(places)), batch_rows=_BATCH_ROWS), split
