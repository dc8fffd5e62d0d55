"""Text as points in time: ISO 8601 in its usual spellings, without a guess about the order of day and month."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from deepseek.data.columns import is_text, plain
from deepseek.errors import ColumnError

_NAIVE = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_AWARE = ("%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%d %H:%M%z")


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
    if pa.types.is_null(values.type):
        return values.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(values.type):
        return values.cast(pa.timestamp("us", tz=values.type.tz), safe=False).cast(pa.timestamp("us"))
    if pa.types.is_date(values.type):
        return values.cast(pa.timestamp("us"), safe=False)
    if not is_text(values.type):
        raise ColumnError(f"a column of type {values.type} stands where points in time are needed", hint="allowed: timestamps, dates, text")
    text = pl.col("text").str.strip_chars()
    if pattern is None:
        text = text.str.replace("T", " ", literal=True).str.replace(r"[zZ]$", "+00:00")
        readings = [_read(text, form) for form in _NAIVE] + [_read(text, form, aware=True) for form in _AWARE]
    else:
        readings = [_read(text, pattern, aware="%z" in pattern)]
    frame = pl.DataFrame(pa.table({"text": values.cast(pa.large_string())}))
    return frame.select(pl.coalesce(readings)).to_series().to_arrow().cast(pa.timestamp("us"))


def _read(text: pl.Expr, form: str, *, aware: bool = False) -> pl.Expr:
    if not aware:
        return text.str.to_datetime(form, time_unit="us", strict=False)
    return text.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False).dt.replace_time_zone(None)
