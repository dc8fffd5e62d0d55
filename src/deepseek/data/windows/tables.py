"""A long table as windows, rows whose columns are lists, and lists of forecasts as a long table; without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from deepseek.data.columns import missing, require_columns
from deepseek.data.windows.grid import read_moments
from deepseek.data.windows.preparation import WindowPreparation
from deepseek.data.windows.rules import WindowRules
from deepseek.data.windows.steps import NO_ROW, Steps, lay_out, series_codes
from deepseek.errors import ColumnError, DataError

if TYPE_CHECKING:
    from deepseek.data.sources.base import Source

STEP = "step"
"""The column of a long answer that counts the steps ahead, from 1; `step_ahead` where the time or what tells series apart is called so."""


class Placed(Protocol):
    """Steps in order of series and time: what `Steps` and `StepArrays` have in common."""

    @property
    def rows(self) -> np.ndarray:
        """The table's row behind each step, -1 where there is none."""

    @property
    def numbers(self) -> np.ndarray:
        """Which step of the grid each is."""

    @property
    def starts(self) -> np.ndarray:
        """Where each series begins and ends."""


def is_long(schema: pa.Schema, rules: WindowRules) -> bool:
    """Whether rows are single steps of series, rather than windows, whose targets are lists."""
    name = next((name for name in rules.target if name in schema.names), None)
    kind = None if name is None else schema.field(name).type
    return kind is None or not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def long_table(source: Source, rules: WindowRules) -> pa.Table:
    """Return the steps that a source holds, in memory, and of their columns those that a forecast needs.

    Raises:
        ColumnError: One is missing.
    """
    schema, needed = source.schema(), dict.fromkeys((rules.time, *rules.series, *rules.inputs))
    require_columns(needed, schema.names, what="a forecast")
    return pa.Table.from_batches(source.read(columns=list(needed)), pa.schema([schema.field(name) for name in needed]))


def window_rows(
    column: Callable[[str], pa.ChunkedArray], steps: Placed, starts: np.ndarray, *, preparation: WindowPreparation
) -> pa.RecordBatch:
    """Return windows as rows: what `WindowPreparation.apply` takes, and what a served model is asked.

    Args:
        column: Gives a column of the long table.
        steps: Its steps.
        starts: The first step of each window's context, int64 `[windows]`.
        preparation: The fitted preparation.
    """
    rules = preparation.rules
    series = np.searchsorted(steps.starts, starts, side="right") - 1
    ends = steps.starts[series + 1]
    columns = {}
    for name in rules.inputs:
        if name in rules.static:
            columns[name] = _taken(column(name), steps.rows[steps.starts[series]])
            continue
        length = rules.context + rules.horizon if name in rules.known else rules.context
        places = starts[:, None] + np.arange(length)
        if name == rules.time:
            moments = steps.numbers[starts][:, None] + np.arange(length)
            values = preparation.grid.as_arrow(preparation.grid.moments(moments.ravel()))
        else:
            inside = places < ends[:, None]
            rows = np.where(inside, steps.rows[np.where(inside, places, starts[:, None])], NO_ROW)
            values = _taken(column(name), rows.ravel())
        columns[name] = pa.ListArray.from_arrays(pa.array(np.arange(len(starts) + 1, dtype=np.int32) * length), values)
    return pa.RecordBatch.from_pydict(columns)


def _taken(column: pa.ChunkedArray, rows: np.ndarray) -> pa.Array:
    taken = column.take(pa.array(np.maximum(rows, 0), mask=rows == NO_ROW)) if len(column) else pa.nulls(len(rows), column.type)
    return taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken


class LatestWindows:
    """The last window of each series in a long table: its context ends with the last step of which a target is known.

    Rows behind that one give what is known of the future; their targets are missing.

    Args:
        table: Rows of the long table, in any order.
        preparation: The fitted preparation.

    Attributes:
        warnings: What the user should know, in words: values that are to be known ahead, and are missing.

    Raises:
        ColumnError: A column is missing.
        DataError: A series is too short, or lacks what must be known of the future.
    """

    def __init__(self, table: pa.Table, preparation: WindowPreparation) -> None:
        rules = preparation.rules
        require_columns((rules.time, *rules.series, *rules.inputs), table.column_names, what="a forecast")
        self._table, self._preparation = table, preparation
        self.steps = steps_of(table, preparation)
        self.starts = self._starts()
        self._require_future()
        self.warnings = tuple(self._missing_ahead())

    def __len__(self) -> int:
        return len(self.starts)

    def _starts(self) -> np.ndarray:
        rules, steps = self._preparation.rules, self.steps
        known = np.zeros(len(steps), dtype=bool)
        real = steps.rows != NO_ROW
        for name in rules.target:
            there = ~missing(self._table[name].combine_chunks())
            known[real] |= there[steps.rows[real]]
        last = np.full(len(steps.keys), -1, dtype=np.int64)
        np.maximum.at(last, steps.series[known], np.flatnonzero(known))
        starts = last - rules.context + 1
        short = np.flatnonzero(starts < steps.starts[:-1])
        if len(short):
            have = int(max(last[short[0]] + 1 - steps.starts[short[0]], 0))
            raise DataError(
                f"{len(short):,} of {len(starts):,} series have fewer than {rules.context} steps up to the last known one, "
                f"the first of them {self._named(int(short[0]))} with {have}",
                hint="give more of the past; where values are missing, rows may say so with null",
            )
        return starts

    def _require_future(self) -> None:
        rules, steps = self._preparation.rules, self.steps
        needed = [name for name in rules.known if name != rules.time]
        ends = self.starts + rules.context + rules.horizon
        lacking = np.flatnonzero(ends > steps.starts[1:])
        if needed and len(lacking):
            ahead = int(steps.starts[lacking[0] + 1] - self.starts[lacking[0]] - rules.context)
            raise DataError(
                f"the future of {', '.join(map(repr, needed))} is an input: {rules.horizon} steps behind the last known target are needed, "
                f"and {self._named(int(lacking[0]))} has {ahead}",
                hint="add rows with these columns, and with the targets missing",
            )

    def _missing_ahead(self) -> Iterator[str]:
        rules, steps = self._preparation.rules, self.steps
        places = (self.starts[:, None] + rules.context + np.arange(rules.horizon)).ravel()
        for name in rules.known:
            if name == rules.time or not len(places):
                continue
            rows = steps.rows[places]
            lacking = rows == NO_ROW
            lacking[~lacking] = missing(self._table[name].combine_chunks())[rows[~lacking]]
            if lacking.any():
                yield (
                    f"{int(lacking.sum()):,} of {len(places):,} values of {name!r} that are to be known ahead are missing: they are filled "
                    "as missing values of training are"
                )

    def _named(self, place: int) -> str:
        key = self.steps.keys[place]
        return f"series {'/'.join(map(str, key))}" if key else "the series"

    def rows(self, start: int, stop: int) -> pa.RecordBatch:
        """Return the windows of some of the series, as rows."""
        return window_rows(lambda name: self._table[name], self.steps, self.starts[start:stop], preparation=self._preparation)

    def answers(self, table: pa.Table, start: int, stop: int) -> pa.RecordBatch:
        """Return the answers to these windows as a long table: a row for each series and step ahead.

        Args:
            table: Lists of `horizon` values, a row for each window.
            start: The first of the series.
            stop: The one behind the last.

        Raises:
            ColumnError: The time, or what tells series apart, is called like a column of the answer.
        """
        rules, grid = self._preparation.rules, self._preparation.grid
        horizon = rules.horizon
        first = self.steps.numbers[self.starts[start:stop]] + rules.context
        ahead = np.tile(np.arange(1, horizon + 1), stop - start)
        moments = grid.as_arrow(grid.moments(np.repeat(first, horizon) + ahead - 1))
        kind = self._table[rules.time].type
        if pa.types.is_timestamp(kind) and kind.tz is not None:  # the grid is in UTC
            moments = moments.cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("us", tz=kind.tz))
        columns: dict[str, Any] = {rules.time: moments}
        rows = np.repeat(self.steps.rows[self.steps.starts[start:stop]], horizon)
        columns |= {name: self._table[name].combine_chunks().take(pa.array(rows)) for name in rules.series}
        if taken := [name for name in columns if name in table.column_names]:
            raise ColumnError(
                f"the column {taken[0]!r} is called like one of the answer, which has {', '.join(table.column_names)}",
                hint="give that column of the table another name, and train with it",
            )
        ahead_name = STEP
        while ahead_name in columns:
            ahead_name += "_ahead"
        columns[ahead_name] = pa.array(ahead)
        columns |= {name: table[name].combine_chunks().flatten() for name in table.column_names}
        return pa.RecordBatch.from_pydict(columns)


def steps_of(table: pa.Table, preparation: WindowPreparation) -> Steps:
    """Return a table's steps on the grid of training.

    Raises:
        DataError: A moment stands twice, or lies between two steps.
    """
    rules = preparation.rules
    moments, _ = read_moments(table, rules.time, form=preparation.form)
    codes, keys = series_codes(table, rules.series)
    numbers = preparation.grid.unit == "numbers"
    return lay_out(codes, moments, keys=keys, grid=preparation.grid, gaps="fill", numbers=numbers, what=rules.time)
