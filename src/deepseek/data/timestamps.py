"""Columns as points in time: timestamps, dates, text in a known form, or numbers since 1970."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from deepseek.data.columns import is_number, is_text, plain
from deepseek.errors import ColumnError
from deepseek.fields.timestamps import COMPACT, ISO, read_text

SINCE = {
    "seconds since 1970": 1e6,
    "milliseconds since 1970": 1e3,
    "microseconds since 1970": 1.0,
    "nanoseconds since 1970": 1e-3,
}
"""What numbers count that are points in time, and how many microseconds that is."""
_CALENDAR = (-62_135_596_800e6, 253_402_214_400e6)
"""Microseconds of the first and the last day that a calendar of four digits has."""


def read_timestamps(array: pa.Array, *, pattern: str | None = None) -> pa.Array:
    """Return a column as `timestamp[us]` in UTC without a time zone; null where a text cannot be read as a point in time.

    Text may be `2024-01-31`, `2024-01-31 10:00`, `2024-01-31T10:00:00.5`, each with a time also with `Z` or an offset like `+02:00`; a
    text or timestamp without a zone is taken as UTC.

    Args:
        array: Timestamps, dates or text.
        pattern: The form of the text in the notation of `strftime` where it is another: `%d.%m.%Y`.

    Raises:
        ColumnError: The column holds something else.
    """
    values = plain(array)
    kind = values.type
    if pa.types.is_null(kind):
        return values.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(kind):
        return values.cast(pa.timestamp("us", tz=kind.tz), safe=False).cast(pa.timestamp("us"))
    if pa.types.is_date(kind):
        return values.cast(pa.timestamp("us"), safe=False)
    if not is_text(kind):
        raise ColumnError(f"a column of type {kind} stands where points in time are needed", hint="allowed: timestamps, dates, text")
    return read_text(values, pattern or ISO)


def from_numbers(column: pa.Array, *, pattern: str | None = None) -> pa.Array:
    """Return numbers as `timestamp[us]`: dates like 20240131 where the pattern is `%Y%m%d`, else seconds since 1970 or parts of them.

    Where no unit is named, the size of each number tells seconds from milli-, micro- and nanoseconds: all of them are read as years between
    1900 and 5000, and milliseconds of the years about 1970 wrongly. A moment beyond the years 1 to 9999 is the nearest one within.

    Args:
        column: Whole numbers or fractions; null and NaN become null.
        pattern: `%Y%m%d`, one of `SINCE`, or nothing.
    """
    if pattern == COMPACT and pa.types.is_integer(column.type):
        return read_text(column.cast(pa.string()), COMPACT)
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    factors = np.array(list(SINCE.values()))
    micro = np.clip(values * (SINCE[pattern] if pattern in SINCE else factors[_sizes(values)]), *_CALENDAR)
    known = np.isfinite(values)
    return pa.array(np.where(known, micro, 0).astype(np.int64), mask=~known).cast(pa.timestamp("us"))


def unit_of(numbers: np.ndarray) -> str:
    """Return which of `SINCE` a column's numbers are: what most of them are by their size; zeros, the same in every unit, do not count.

    Args:
        numbers: float64, NaN where one is missing.
    """
    votes = np.bincount(_sizes(numbers[np.isfinite(numbers) & (numbers != 0)]), minlength=len(SINCE))
    return list(SINCE)[int(votes.argmax())]


def _sizes(numbers: np.ndarray) -> np.ndarray:
    """Return the place in `SINCE` of what each number is by its size."""
    return np.asarray(np.digitize(np.abs(numbers), (1e11, 1e14, 1e17)))


def holds_numbers(kind: pa.DataType) -> bool:
    """Whether a column of this type gives points in time as numbers."""
    return is_number(kind) and not pa.types.is_decimal(kind)
