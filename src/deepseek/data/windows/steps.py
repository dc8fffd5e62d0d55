"""The rows of a long table as steps: series after series, each on its regular grid, gaps filled with steps that no row stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from deepseek.data.windows.grid import Grid, infer_grid, parse_frequency
from deepseek.errors import DataError
from deepseek.fields.timestamps import is_compact

Gaps = Literal["fill", "fail"]
NO_ROW = -1
MOST_FILLED = 0.5
"""A larger share of steps without a row means that the grid is not the table's."""


@dataclass(frozen=True)
class Steps:
    """Every step of every series, in order of series and time.

    Attributes:
        rows: int64 `[steps]`: the table's row behind each step, -1 where there is none.
        numbers: int64 `[steps]`: which step of the grid it is.
        starts: int64 `[series + 1]`: where each series begins and ends.
        keys: Each series' values in the columns that tell series apart; one empty key where there is but one series.
        grid: The grid.
    """

    rows: np.ndarray
    numbers: np.ndarray
    starts: np.ndarray
    keys: tuple[tuple[Any, ...], ...]
    grid: Grid

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def series(self) -> np.ndarray:
        """Return which series each step is of, int64 `[steps]`."""
        return np.repeat(np.arange(len(self.keys)), np.diff(self.starts))

    @property
    def filled(self) -> int:
        """How many steps no row stands for."""
        return int((self.rows == NO_ROW).sum())

    def places(self, table_rows: int) -> np.ndarray:
        """Return, for each row of the table, its step, int64 `[table_rows]`."""
        places = np.empty(table_rows, dtype=np.int64)
        real = np.flatnonzero(self.rows != NO_ROW)
        places[self.rows[real]] = real
        return places


def series_codes(table: pa.Table, columns: Sequence[str]) -> tuple[np.ndarray, tuple[tuple[Any, ...], ...]]:
    """Return each row's series, int64 `[rows]`, and the series' keys, in the order of first appearance.

    Args:
        table: Rows with at least these columns.
        columns: What tells series apart; none for a single series.
    """
    if not columns:
        return np.zeros(table.num_rows, dtype=np.int64), ((),)
    codes = np.zeros(table.num_rows, dtype=np.int64)
    for name in columns:
        encoded = table[name].combine_chunks().dictionary_encode(null_encoding="encode")
        part = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
        codes = np.unique(codes * (len(encoded.dictionary) + 1) + part, return_inverse=True)[1]
    _, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    taken = table.select(list(columns)).take(pa.array(first[order]))
    values = [taken[name].to_pylist() for name in columns]
    return ranks[codes], tuple(zip(*values, strict=True))


def lay_out(
    codes: np.ndarray,
    moments: np.ndarray,
    *,
    keys: tuple[tuple[Any, ...], ...],
    grid: Grid | str | None,
    gaps: Gaps,
    numbers: bool,
    what: str,
) -> Steps:
    """Put rows in the order of series and time, on a regular grid.

    Args:
        codes: Each row's series, int64 `[rows]`.
        moments: Each row's moment, int64 `[rows]`.
        keys: The series' keys.
        grid: The grid, a frequency, or nothing: then the commonest distance within the longest series is taken.
        gaps: Whether steps without a row are filled with missing values, or refused.
        numbers: Whether moments are plain numbers.
        what: The time column's name, for messages.

    Raises:
        DataError: There is no row; a moment stands twice in a series or off the grid; or there are gaps where none may be, or more gaps
            than rows.
    """
    if not len(codes):
        raise DataError("the table has no row, and so no series", hint="give the steps of one series or more")
    order = np.lexsort((moments, codes))
    codes, moments = codes[order], moments[order]
    ends = np.flatnonzero(np.diff(codes, append=-1)) + 1
    begins = np.concatenate(([0], ends[:-1]))
    if isinstance(grid, str):
        grid = parse_frequency(grid).anchored(moments)
    if grid is None:
        longest = int(np.argmax(ends - begins))
        grid = infer_grid(np.unique(moments[begins[longest] : ends[longest]]), numbers=numbers, what=what)
    steps = grid.numbers(moments, what=what)
    _refuse_twice(codes, steps, moments, grid=grid, what=what)
    lengths = steps[ends - 1] - steps[begins] + 1
    starts = np.concatenate(([0], np.cumsum(lengths)))
    total = int(starts[-1])
    filled = total - len(steps)
    if filled and (gaps == "fail" or filled > MOST_FILLED * total):
        after = int(np.flatnonzero((np.diff(steps) > 1) & (np.diff(codes) == 0))[0])
        moment = grid.as_arrow(moments[after : after + 1])[0].as_py()
        raise DataError(
            f"{filled:,} of {total:,} steps of {grid.name} have no row; the first gap is after {moment}",
            hint="numbers such as 20240131 are no regular steps: write dates as 2024-01-31"
            if numbers and is_compact(pa.array(moments))
            else "say data.frequency where it is another, data.gaps: fill to take them for missing values, or fill the table",
        )
    places = starts[np.repeat(np.arange(len(ends)), ends - begins)] + steps - np.repeat(steps[begins], ends - begins)
    rows = np.full(total, NO_ROW, dtype=np.int64)
    rows[places] = order
    counted = np.arange(total) - np.repeat(starts[:-1], lengths) + np.repeat(steps[begins], lengths)
    return Steps(rows, counted, starts, keys, grid)


def _refuse_twice(codes: np.ndarray, steps: np.ndarray, moments: np.ndarray, *, grid: Grid, what: str) -> None:
    twice = np.flatnonzero((np.diff(codes) == 0) & (np.diff(steps) == 0))
    if len(twice):
        first = grid.as_arrow(moments[twice[:1]])[0].as_py()
        raise DataError(
            f"{len(twice):,} rows have a moment of {what!r} that their series has already, the first of them {first}",
            hint="name the columns that tell series apart under data.series, or leave doubled rows out",
        )
