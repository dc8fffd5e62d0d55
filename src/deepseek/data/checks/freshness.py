"""Rows that must not be too old."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.checks.base import Check, OnFail
from deepseek.data.columns import missing, require_columns
from deepseek.data.timestamps import read_timestamps
from deepseek.errors import InputError

_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


class FreshnessCheck(Check):
    """A row is bad where its point in time lies further back than allowed, or is text that is no point in time; a missing one is not bad.

    Args:
        column: The column of timestamps, dates or ISO 8601 text; without a time zone they are taken as UTC.
        max_age: How far back, as numbers with units `w d h m s`: `7d`, `1d12h`.
        now: The moment to count from, for a repeatable result; where not given, the moment at which each batch is checked.
        on_fail: What becomes of bad rows.

    Example:
        >>> import pyarrow as pa
        >>> check = FreshnessCheck(column="seen", max_age="7d", now="2024-01-31")
        >>> check.bad(pa.record_batch({"seen": ["2024-01-30", "2023-01-30"]})).tolist()
        [False, True]
    """

    def __init__(self, *, column: str, max_age: str, now: str | None = None, on_fail: OnFail = "quarantine") -> None:
        super().__init__(on_fail=on_fail)
        self.column, self.max_age = column, max_age
        self._age = parse_duration(max_age)
        self._now = None if now is None else read_timestamps(pa.array([str(now)]))[0].as_py()
        if now is not None and self._now is None:
            raise InputError(f"the check freshness was given now={now!r}", hint="write a point in time as 2024-01-31T10:00:00")

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that is looked at."""
        return (self.column,)

    @property
    def reason(self) -> str:
        """Why a row is bad."""
        return f"{self.column} must not be older than {self.max_age}"

    def fingerprint(self) -> str | None:
        """Return nothing where rows are compared with the present moment: the answer is another one each time."""
        return None if self._now is None else ""

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for each row that is too old."""
        require_columns(self.columns, batch.schema.names, what="the check freshness")
        values = batch.column(self.column)
        moments = read_timestamps(values)
        oldest = (self._now or datetime.now(UTC).replace(tzinfo=None)) - self._age
        old = pc.less(moments, pa.scalar(oldest, pa.timestamp("us"))).fill_null(False)
        unread = missing(moments) & ~missing(values)
        return np.asarray(old.to_numpy(zero_copy_only=False) | unread)


def parse_duration(text: str) -> timedelta:
    """Return the length of time that a text such as `7d` or `1d12h` stands for.

    Raises:
        InputError: The text is none, or stands for no time at all.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([wdhms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise InputError(f"{text!r} is no length of time", hint="write numbers with the units w, d, h, m, s: 7d, 1d12h")
    try:
        length = sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())
    except OverflowError:
        raise InputError(f"{text!r} is longer than time can be counted", hint="at most some million days") from None
    if not length:
        raise InputError(f"{text!r} is no time at all", hint="write a length greater than zero")
    return length
