"""Values that can be read as what they should be."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.checks.base import Check, OnFail
from deepseek.data.columns import is_number, is_text, missing, plain, require_columns
from deepseek.data.timestamps import read_timestamps
from deepseek.errors import InputError

TypeName = Literal["number", "integer", "boolean", "text", "timestamp"]

_BOOLEANS = ["true", "false", "yes", "no", "1", "0"]


class TypeCheck(Check):
    """A row is bad where a value is neither of the type nor text that can be read as it; a missing value is never bad.

    Use it on a column that a source could only read as text because some of its values are broken: those rows are set aside.

    Args:
        column: The column to look at.
        expected: `number` (finite; `1e3` counts), `integer` (`3` and `3.0` count, `3.5` does not), `boolean` (true, false, yes, no, 1, 0 in
            any case), `timestamp` (ISO 8601 unless `format` is given) or `text` (any string).
        format: How a timestamp is written, in the notation of `strftime`: `%d.%m.%Y`.
        on_fail: What becomes of bad rows.

    Example:
        >>> import pyarrow as pa
        >>> TypeCheck(column="age", expected="integer").bad(pa.record_batch({"age": ["31", "old", None]})).tolist()
        [False, True, False]
    """

    def __init__(
        self,
        *,
        column: str,
        expected: TypeName,
        format: str | None = None,  # noqa: A002  the recipe's word; the built-in is not wanted here
        on_fail: OnFail = "quarantine",
    ) -> None:
        super().__init__(on_fail=on_fail)
        if expected not in get_args(TypeName):
            raise InputError(f"the check type was given expected={expected!r}", hint=f"allowed: {', '.join(get_args(TypeName))}")
        if format is not None and expected != "timestamp":
            raise InputError(f"the check type was given a format with expected={expected!r}", hint="a format belongs to a timestamp")
        self.column, self.expected, self.format = column, expected, format

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that is looked at."""
        return (self.column,)

    @property
    def reason(self) -> str:
        """Why a row is bad."""
        form = f" written as {self.format}" if self.format else ""
        return f"{self.column} must be {'an' if self.expected == 'integer' else 'a'} {self.expected}{form}".replace("a text", "text")

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for each row whose value is there and cannot be read as the type."""
        require_columns(self.columns, batch.schema.names, what="the check type")
        values = plain(batch.column(self.column))
        return np.asarray(~missing(values) & ~self._fits(values))

    def _fits(self, values: pa.Array) -> np.ndarray:
        kind = values.type
        if self.expected == "text":
            return np.full(len(values), is_text(kind))
        if self.expected == "boolean":
            return _fits_boolean(values)
        if self.expected == "timestamp":
            if not (is_text(kind) or pa.types.is_temporal(kind)):
                return np.zeros(len(values), dtype=bool)
            if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
                return np.ones(len(values), dtype=bool)
            return ~missing(read_timestamps(values, pattern=self.format))
        return _fits_number(values, whole=self.expected == "integer")


def _fits_boolean(values: pa.Array) -> np.ndarray:
    if is_text(values.type):
        known = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(values)), pa.array(_BOOLEANS, values.type))
        return np.asarray(known.to_numpy(zero_copy_only=False))
    if is_number(values.type):
        return np.asarray(np.isin(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), (0.0, 1.0)))
    return np.full(len(values), pa.types.is_boolean(values.type))


def _fits_number(values: pa.Array, *, whole: bool) -> np.ndarray:
    if pa.types.is_integer(values.type):
        return np.ones(len(values), dtype=bool)
    if is_text(values.type):
        text = pl.DataFrame(pa.table({"text": values.cast(pa.large_string())})).to_series()
        numbers = text.str.strip_chars().cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
    elif is_number(values.type):
        numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    else:
        return np.zeros(len(values), dtype=bool)
    finite = np.isfinite(numbers)
    return np.asarray(finite & (numbers == np.floor(numbers)) if whole else finite)
