"""Values that must be among some."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.checks.base import Check, OnFail
from deepseek.data.columns import missing, plain, require_columns
from deepseek.errors import ColumnError, InputError

Value = bool | int | float | str


class InSetCheck(Check):
    """A row is bad where a value is not among those allowed; a missing value is not bad.

    Args:
        column: The column to look at.
        values: The values allowed, all of the column's type, at least one.
        on_fail: What becomes of bad rows.

    Example:
        >>> import pyarrow as pa
        >>> InSetCheck(column="size", values=["S", "M"]).bad(pa.record_batch({"size": ["S", "XXL", None]})).tolist()
        [False, True, False]
    """

    def __init__(self, *, column: str, values: Sequence[Value], on_fail: OnFail = "quarantine") -> None:
        super().__init__(on_fail=on_fail)
        if not values:
            raise InputError("the check in_set was given no values", hint="name the values that are allowed")
        self.column, self.values = column, tuple(values)

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that is looked at."""
        return (self.column,)

    @property
    def reason(self) -> str:
        """Why a row is bad."""
        shown = ", ".join(map(str, self.values[:20]))
        return f"{self.column} must be one of {shown}{', …' if len(self.values) > 20 else ''}"

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for each row whose value is there and not among those allowed."""
        require_columns(self.columns, batch.schema.names, what="the check in_set")
        values = plain(batch.column(self.column))
        if pa.types.is_null(values.type):
            return np.zeros(batch.num_rows, dtype=bool)
        found = np.asarray(pc.is_in(values, self._allowed(values.type)).to_numpy(zero_copy_only=False))
        return np.asarray(~found & ~missing(values))

    def _allowed(self, kind: pa.DataType) -> pa.Array:
        booleans = sum(isinstance(value, bool) for value in self.values)
        if booleans not in {0, len(self.values)} or (booleans > 0) != pa.types.is_boolean(kind):
            raise self._mismatch(kind)
        try:
            return pa.array(self.values, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            raise self._mismatch(kind) from None

    def _mismatch(self, kind: pa.DataType) -> ColumnError:
        return ColumnError(
            f"the check in_set compares the column {self.column!r} of type {kind} with {list(self.values)[:20]}",
            hint="write values of the column's type: text in quotes, numbers and true or false without",
        )
