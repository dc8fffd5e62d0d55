"""The regular grid of moments that a series lies on: found out from its times, or given.

Moments are whole numbers: microseconds since 1970, or the table's own numbers where its time is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from deepseek.data.columns import get_column, is_text, missing, plain
from deepseek.data.timestamps import read_timestamps
from deepseek.errors import DataError, InputError
from deepseek.fields.timestamps import ISO, forms_of

Unit = Literal["us", "months", "numbers"]

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
WEEK_US = 7 * DAY_US
_UNITS: dict[str, tuple[Unit, int]] = {
    "s": ("us", SECOND_US),
    "min": ("us", 60 * SECOND_US),
    "h": ("us", 3600 * SECOND_US),
    "d": ("us", DAY_US),
    "w": ("us", WEEK_US),
    "mo": ("months", 1),
    "q": ("months", 3),
    "y": ("months", 12),
    "": ("numbers", 1),
}
_SHORTEST_MONTH_US = 28 * DAY_US


@dataclass(frozen=True)
class Grid:
    """Moments at equal distances: of time, of calendar months, or of plain numbers.

    Attributes:
        unit: What `step` counts: microseconds, calendar months, or the time column's own numbers.
        step: The distance, 1 or more.
        anchor: One moment of the grid, which has the number 0.
        month_end: Of months, whether every moment lies on its month's last day.

    Example:
        >>> grid = parse_frequency("1h").anchored(np.array([0]))
        >>> grid.numbers(np.array([0, 7_200_000_000]), what="time").tolist(), grid.name
        ([0, 2], '1h')
    """

    unit: Unit
    step: int
    anchor: int = 0
    month_end: bool = False

    @property
    def name(self) -> str:
        """The distance as recipes write it: `15min`, `1h`, `1mo`; a number for plain numbers."""
        for suffix, (unit, size) in reversed(_UNITS.items()):
            if unit == self.unit and self.step % size == 0:
                return f"{self.step // size}{suffix}"
        return f"{self.step / SECOND_US:g}s"

    @property
    def season(self) -> int:
        """How many steps the season has that series of this distance usually have; 1 where none is usual.

        A day of hours and minutes, a week of days, a year of weeks, months and quarters.
        """
        if self.unit == "months":
            return 12 // self.step if 12 % self.step == 0 else 1
        if self.unit == "numbers":
            return 1
        if self.step < DAY_US:
            return DAY_US // self.step if DAY_US % self.step == 0 else 1
        return {DAY_US: 7, WEEK_US: 52}.get(self.step, 1)

    def anchored(self, moments: np.ndarray) -> Grid:
        """Return the grid through the first of these moments, int64, at least one."""
        ends = self.unit == "months" and bool(_is_month_end(moments).all())
        return Grid(self.unit, self.step, int(moments[0]), ends)

    def numbers(self, moments: np.ndarray, *, what: str) -> np.ndarray:
        """Return which step of the grid each moment is, int64; steps before the anchor are negative.

        Args:
            moments: int64.
            what: The time column's name, for the message.

        Raises:
            DataError: A moment lies between two steps.
        """
        if self.unit == "months":
            numbers = np.floor_divide(_months(moments) - _months(np.array([self.anchor])), self.step)
        else:
            numbers = np.floor_divide(moments - self.anchor, self.step)
        off = np.flatnonzero(self.moments(numbers) != moments)
        if len(off):
            first = self.as_arrow(moments[off[:1]])[0].as_py()
            raise DataError(
                f"{len(off):,} of {len(moments):,} values of {what!r} lie between the steps of {self.name}, the first of them {first}",
                hint="give another data.frequency, or bring the table to regular steps (resample it) first",
            )
        return np.asarray(numbers, dtype=np.int64)

    def moments(self, numbers: np.ndarray) -> np.ndarray:
        """Return the moments of steps, int64."""
        if self.unit != "months":
            return np.asarray(self.anchor + numbers.astype(np.int64) * self.step, dtype=np.int64)
        first = _months(np.array([self.anchor]))[0]
        months = (first + numbers.astype(np.int64) * self.step).astype("datetime64[M]")
        inside = self.anchor - int(np.array([first]).astype("datetime64[M]").astype("datetime64[us]").astype(np.int64)[0])
        starts = months.astype("datetime64[us]").astype(np.int64)
        if self.month_end:
            return np.asarray((months + 1).astype("datetime64[us]").astype(np.int64) - DAY_US + inside % DAY_US, dtype=np.int64)
        return np.asarray(starts + inside, dtype=np.int64)

    def as_arrow(self, moments: np.ndarray) -> pa.Array:
        """Return moments as a column: timestamps, or numbers where the table has numbers."""
        column = pa.array(moments.astype(np.int64))
        return column if self.unit == "numbers" else column.cast(pa.timestamp("us"))

    def to_json(self) -> dict[str, Any]:
        """Return the grid as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Grid:
        """Return the grid that `to_json` wrote."""
        return cls(**value)


def parse_frequency(text: str) -> Grid:
    """Return the grid of a distance as recipes write it, not yet anchored.

    Args:
        text: `30s`, `15min`, `1h`, `1d`, `1w`, `1mo`, `1q`, `1y`; a whole number where times are numbers.

    Raises:
        InputError: It is none of these.
    """
    match = re.fullmatch(r"\s*(\d+)\s*([a-z]*)\s*", text)
    if match is None or match[2] not in _UNITS or int(match[1]) < 1:
        raise InputError(f"the frequency is {text!r}", hint="allowed: a number with s, min, h, d, w, mo, q or y, such as 15min or 1d")
    unit, size = _UNITS[match[2]]
    return Grid(unit, int(match[1]) * size)


def infer_grid(moments: np.ndarray, *, numbers: bool, what: str) -> Grid:
    """Return the grid whose distance is the commonest between neighbours, anchored at the first moment.

    Where every distance is four weeks or more and all days of the month agree, calendar months are counted, which are not equally long.

    Args:
        moments: The different moments of a series, ascending, int64; of several series those of the longest.
        numbers: Whether they are plain numbers.
        what: The time column's name, for the message.

    Raises:
        DataError: There are fewer than two moments.
    """
    if len(moments) < 2:
        raise DataError(f"{what!r} has fewer than two different moments in every series", hint="a series needs steps to learn from")
    apart = np.diff(moments)
    if not numbers and apart.min() >= _SHORTEST_MONTH_US and _by_months(moments):
        return Grid("months", int(_commonest(np.diff(_months(moments))))).anchored(moments)
    return Grid("numbers" if numbers else "us", int(_commonest(apart)), int(moments[0]))


def read_moments(batch: pa.RecordBatch | pa.Table, name: str, *, form: str | None = None) -> tuple[np.ndarray, str | None]:
    """Return a time column as whole numbers, int64 `[rows]`, and the form of its text; no form where it holds no text.

    Args:
        batch: The rows.
        name: The column.
        form: How its text is written, where that is known.

    Raises:
        DataError: A value is missing, or no time.
    """
    column = batch[name] if isinstance(batch, pa.Table) else get_column(batch, name)
    column = plain(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    if absent := int(missing(column).sum()):
        raise DataError(
            f"{absent:,} rows have no time in {name!r}", hint=f"set them aside with a check: {{type: required, column: {name}}}"
        )
    if pa.types.is_integer(column.type):
        return np.asarray(column.cast(pa.int64())), None
    if is_text(column.type) and form is None:
        form = next(iter(forms_of(column.cast(pa.string()))), ISO)
    read = read_timestamps(column, pattern=form) if form is not None and is_text(column.type) else read_timestamps(column)
    if read.null_count and form not in (None, ISO):
        read = read_timestamps(column)  # what production sends may be in ISO 8601, which cannot be mistaken
    if read.null_count:
        raise DataError(
            f"{read.null_count:,} values of {name!r} cannot be read as points in time",
            hint="write times as 2025-04-03 14:30, or as whole numbers",
        )
    return np.asarray(read.cast(pa.int64())), form


def _commonest(values: np.ndarray) -> int:
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])


def _months(moments: np.ndarray) -> np.ndarray:
    return moments.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def _inside_month(moments: np.ndarray) -> np.ndarray:
    return moments - moments.astype("datetime64[us]").astype("datetime64[M]").astype("datetime64[us]").astype(np.int64)


def _is_month_end(moments: np.ndarray) -> np.ndarray:
    return np.asarray(_months(moments + DAY_US) != _months(moments))


def _by_months(moments: np.ndarray) -> bool:
    return len(np.unique(_inside_month(moments))) == 1 or (bool(_is_month_end(moments).all()) and len(np.unique(moments % DAY_US)) == 1)
