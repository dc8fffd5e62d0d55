"""From a landed long table to windows on disk: laid out in time, split, fitted on the training period, each step prepared once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.artifacts import write_json
from deepseek.data.landing import LandedTable
from deepseek.data.splits import LEFT_OUT, NAMES, TRAIN
from deepseek.data.windows.dataset import STEPS, StepArrays, WindowDataset, new_array
from deepseek.data.windows.grid import read_moments
from deepseek.data.windows.places import Places, TimeSplit, places_summary, window_places
from deepseek.data.windows.preparation import WindowPreparation
from deepseek.data.windows.rules import HISTORY, WindowRules
from deepseek.data.windows.steps import NO_ROW, Gaps, Steps, lay_out, series_codes
from deepseek.data.windows.tables import steps_of
from deepseek.errors import DataError

CHUNK = 1 << 16


@dataclass(frozen=True)
class LaidOut:
    """A long table in order of series and time, and which period each step is in.

    Attributes:
        steps: The steps.
        parts: int8 `[steps]`: 0 train, 1 validation, 2 test, -1 left out.
        form: How the time is written, where it is text.
    """

    steps: Steps
    parts: np.ndarray
    form: str | None

    def training_rows(self, table_rows: int) -> np.ndarray:
        """Return which rows of the table lie in the training period, boolean `[table_rows]`."""
        mask = np.zeros(table_rows, dtype=bool)
        rows = self.steps.rows[self.parts == TRAIN]
        mask[rows[rows != NO_ROW]] = True
        return mask


def lay_out_table(table: LandedTable, *, time: str, series: Sequence[str], frequency: str | None, gaps: Gaps, split: TimeSplit) -> LaidOut:
    """Put a landed table in order and split it by time; what is held is a few whole numbers a row.

    Args:
        table: The table.
        time: The column of moments.
        series: The columns that tell series apart.
        frequency: The distance between steps; found out where not given.
        gaps: Whether steps without a row are filled with missing values, or refused.
        split: The periods.

    Raises:
        DataError: Times cannot be read, stand twice, or do not lie on a grid.
    """
    keys = pa.table({name: table.column(name) for name in (time, *series)})
    moments, form = read_moments(keys, time)
    codes, named = series_codes(keys, series)
    numbers = bool(pa.types.is_integer(keys.schema.field(time).type))
    steps = lay_out(codes, moments, keys=named, grid=frequency, gaps=gaps, numbers=numbers, what=time)
    return LaidOut(steps, split.of_steps(steps), form)


def require_static(table: LandedTable, series: Sequence[str], static: Sequence[str]) -> None:
    """See that static columns never change within a series.

    Raises:
        DataError: One does.
    """
    for name in static:
        if name in series:
            continue
        columns = pa.table({key: table.column(key) for key in dict.fromkeys((*series, name))})
        grouped = columns.group_by(list(series)).aggregate([(name, "count_distinct")])
        changing = pc.sum(pc.greater(grouped[f"{name}_count_distinct"], 1)).as_py() or 0
        if changing:
            raise DataError(
                f"{name!r} is named under data.static, and changes within {changing:,} series",
                hint="name it under data.known where its future is known, or leave it out there: then its past is looked at",
            )


def make_windows(table: LandedTable, laid: LaidOut, preparation: WindowPreparation, *, folder: Path) -> dict[str, Any]:
    """Fit a preparation on the training period, prepare every step once, and write which windows each part has.

    Args:
        table: The table.
        laid: Its steps.
        preparation: Not fitted yet.
        folder: Where `steps/`, a folder for each part, `preparation.json` and `counts.json` go.

    Returns:
        What `counts.json` holds: windows by part, and what the user should know.

    Raises:
        DataError: A value cannot be prepared, or no window fits into the training period.
    """
    rules, columns = preparation.rules, _columns(preparation.rules)
    training = laid.training_rows(table.rows)
    preparation.fit(lambda: table.batches(rows=training, columns=columns))
    arrays = _write_steps(table, laid.steps, preparation, folder=folder / STEPS)
    errors = naive_errors(arrays[HISTORY], laid.steps, laid.parts, season=rules.season)
    preparation.naive_errors = {
        series_name(key): [None if np.isnan(one) else float(one) for one in errors[place]] for place, key in enumerate(laid.steps.keys)
    }
    stored = StepArrays(arrays, laid.steps.rows, laid.steps.numbers, laid.steps.starts, errors)
    stored.save(folder / STEPS)
    known = ~np.isnan(arrays[HISTORY]).all(axis=1)
    found = window_places(laid.steps, laid.parts, known, context=rules.context, horizon=rules.horizon)
    counts = _counts(preparation, laid, found)
    for name in NAMES:
        if len(found[name].starts):
            WindowDataset(stored, found[name].starts, inputs=preparation.inputs).save(folder / name)
    write_json(folder / "preparation.json", preparation.to_json(), durable=False)
    write_json(folder / "counts.json", counts, durable=False)
    return counts


def _columns(rules: WindowRules) -> list[str]:
    return list(dict.fromkeys((rules.time, *rules.inputs)))


def _counts(preparation: WindowPreparation, laid: LaidOut, found: Mapping[str, Places]) -> dict[str, Any]:
    warnings = [*preparation.warnings, *places_summary(found)]
    if laid.steps.filled:
        warnings.append(
            f"{laid.steps.filled:,} of {len(laid.steps):,} steps of {laid.steps.grid.name} have no row; their values count as missing"
        )
    if left_out := int((laid.parts == LEFT_OUT).sum()):
        warnings.append(f"{left_out:,} of {len(laid.steps):,} steps are not used: they lie outside of the periods of data.split")
    counts: dict[str, Any] = {"left_out": preparation.left_out, "warnings": warnings, "unknown": [], "leaks": {"warnings": []}}
    for number, name in enumerate(NAMES):
        if len(found[name].starts):
            counts[name] = {"rows": len(found[name].starts), "steps": int((laid.parts == number).sum()), "set_aside": {}}
    counts["split"] = {name: int((laid.parts == number).sum()) for number, name in enumerate(NAMES)}
    return counts


def _write_steps(table: LandedTable, steps: Steps, preparation: WindowPreparation, *, folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)

    def new(place: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        return new_array(folder, place, shape=shape, dtype=dtype)

    batches = table.batches(columns=_columns(preparation.rules), batch_rows=CHUNK)
    arrays = prepare_steps(batches, steps, preparation, schema=table.schema, new=new)
    if preparation.rules.static:
        for name, array in preparation.static_arrays(_first_rows(table, steps, preparation.rules)).items():
            arrays[name] = new(len(arrays), array.shape, array.dtype)
            arrays[name][:] = array
    for array in arrays.values():
        if isinstance(array, np.memmap):
            array.flush()
    return arrays


def prepare_steps(
    batches: Iterable[pa.RecordBatch],
    steps: Steps,
    preparation: WindowPreparation,
    *,
    schema: pa.Schema,
    new: Callable[[int, tuple[int, ...], np.dtype[Any]], np.ndarray],
) -> dict[str, np.ndarray]:
    """Prepare every step, each at its place, however the table is ordered.

    Args:
        batches: The table's rows, in order, of which `steps` says what each is.
        steps: The steps.
        preparation: The fitted preparation.
        schema: The table's columns.
        new: Makes the array that stands at this place of the description, of this shape and type.

    Returns:
        By input name `[steps, …]`.
    """
    arrays: dict[str, np.ndarray] = {}

    def write(made: Mapping[str, np.ndarray], places: np.ndarray) -> None:
        for name, array in made.items():
            if name not in arrays:
                arrays[name] = new(len(arrays), (len(steps), *array.shape[1:]), array.dtype)
            arrays[name][places] = array

    passed, place_of = 0, steps.places(int((steps.rows != NO_ROW).sum()))
    for batch in batches:
        write(preparation.step_arrays(batch), place_of[passed : passed + batch.num_rows])
        passed += batch.num_rows
    filled = np.flatnonzero(steps.rows == NO_ROW)
    for start in range(0, len(filled), CHUNK):
        places = filled[start : start + CHUNK]
        write(preparation.step_arrays(_empty_steps(schema, preparation.rules, steps, places)), places)
    return arrays


def _empty_steps(schema: pa.Schema, rules: WindowRules, steps: Steps, places: np.ndarray) -> pa.RecordBatch:
    """Return rows for steps that have none: their time, and nothing else."""
    moments = steps.grid.as_arrow(steps.grid.moments(steps.numbers[places]))
    columns = {name: pa.nulls(len(places), schema.field(name).type) for name in _columns(rules)}
    return pa.RecordBatch.from_pydict({**columns, rules.time: moments})


def windows_of(table: pa.Table, preparation: WindowPreparation) -> WindowDataset:
    """Return every window of a table in memory whose future is known: what a finished model is measured on.

    Args:
        table: Rows of the long table, in any order.
        preparation: The fitted preparation.

    Raises:
        DataError: The table holds no whole window.
    """
    rules = preparation.rules
    steps = steps_of(table, preparation)
    batches = table.select(_columns(rules)).to_batches(max_chunksize=CHUNK)
    arrays = prepare_steps(batches, steps, preparation, schema=table.schema, new=lambda _, shape, dtype: np.empty(shape, dtype))
    if rules.static:
        first = table.select(list(rules.static)).take(pa.array(steps.rows[steps.starts[:-1]])).combine_chunks()
        arrays |= preparation.static_arrays(first.to_batches()[0])
    unknown: list[float | None] = [None] * len(rules.target)
    errors = np.array([preparation.naive_errors.get(series_name(key), unknown) for key in steps.keys], dtype=np.float32)
    known = ~np.isnan(arrays[HISTORY]).all(axis=1)
    everywhere = np.full(len(steps), TRAIN, dtype=np.int8)
    found = window_places(steps, everywhere, known, context=rules.context, horizon=rules.horizon)["train"]
    stored = StepArrays(arrays, steps.rows, steps.numbers, steps.starts, errors)
    return WindowDataset(stored, found.starts, inputs=preparation.inputs)


def _first_rows(table: LandedTable, steps: Steps, rules: WindowRules) -> pa.RecordBatch:
    """Return one row of each series, in the order of the series; a series begins with a row."""
    rows = steps.rows[steps.starts[:-1]]
    order = np.argsort(rows)
    batches = list(table.batches(rows=rows[order], columns=list(rules.static)))
    taken = pa.Table.from_batches(batches).take(pa.array(np.argsort(order)))
    return taken.combine_chunks().to_batches()[0]


def naive_errors(values: np.ndarray, steps: Steps, parts: np.ndarray, *, season: int) -> np.ndarray:
    """Return each series' mean absolute difference to the value a season before, in training: float32 `[series, c]`, NaN where unknown.

    Args:
        values: Standardised targets, float32 `[steps, c]`, NaN where missing.
        steps: The steps.
        parts: Each step's part.
        season: How many steps a season has, 1 or more.
    """
    series, count = steps.series, len(steps.keys)
    pairs = (series[season:] == series[:-season]) & (parts[season:] == TRAIN) & (parts[:-season] == TRAIN)
    errors = np.full((count, values.shape[1]), np.nan, dtype=np.float32)
    for column in range(values.shape[1]):
        apart = np.abs(values[season:, column].astype(np.float64) - values[:-season, column])
        usable = pairs & ~np.isnan(apart)
        number = np.bincount(series[season:][usable], minlength=count)
        total = np.bincount(series[season:][usable], weights=apart[usable], minlength=count)
        np.divide(total, number, out=errors[:, column], where=number > 0, casting="unsafe")
    return errors


def series_name(key: Sequence[Any]) -> str:
    """Return a series' key as one text, a list as JSON writes it."""
    return json.dumps(list(key), default=str, ensure_ascii=False)
