"""Columns as points in time: timestamps, dates, text in a known form, or numbers since 1970."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from deepseek.data.columns import is_number, is_text, plain
from deepseek.errors import ColumnError
from deepseek.fields.timestamps import COMPACT, ISO, read_text


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

    The size of a number tells seconds from milli-, micro- and nanoseconds: all of them are read as years between 1900 and 5000.

    Args:
        column: Whole numbers or fractions; null and NaN become null.
        pattern: `%Y%m%d`, or nothing.
    """
    if pattern == COMPACT and pa.types.is_integer(column.type):
        return read_text(column.cast(pa.string()), COMPACT)
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    size = np.abs(values)
    micro = values * np.select([size < 1e11, size < 1e14, size < 1e17], [1e6, 1e3, 1.0], 1e-3)
    known = np.isfinite(micro)
    return pa.array(np.where(known, micro, 0).astype(np.int64), mask=~known).cast(pa.timestamp("us"))


def holds_numbers(kind: pa.DataType) -> bool:
    """Whether a column of this type gives points in time as numbers."""
    return is_number(kind) and not pa.types.is_decimal(kind)
