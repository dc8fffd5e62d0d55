"""Values that must lie between bounds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.checks.base import Check, OnFail
from deepseek.data.columns import is_number, plain, require_columns
from deepseek.data.timestamps import read_timestamps
from deepseek.errors import ColumnError, InputError
from deepseek.validation import shown

Bound = int | float | str


class RangeCheck(Check):
    """A row is bad where a number or a point in time lies outside the bounds, which belong to the range themselves.

    A missing value (null or NaN) is not bad; the check `required` asks for it. Integers are compared as integers, so that large ones are
    exact.

    Args:
        column: The column to look at.
        min: The smallest value allowed; for a column of timestamps or dates a text such as `2024-01-31`.
        max: The largest value allowed. At least one of the two is needed.
        on_fail: What becomes of bad rows.

    Example:
        >>> import pyarrow as pa
        >>> RangeCheck(column="age", min=0, max=120).bad(pa.record_batch({"age": [31, 240, None]})).tolist()
        [False, True, False]
    """

    def __init__(
        self,
        *,
        column: str,
        min: Bound | None = None,  # noqa: A002  the recipe's word; the built-in is not wanted here
        max: Bound | None = None,  # noqa: A002
        on_fail: OnFail = "quarantine",
    ) -> None:
        super().__init__(on_fail=on_fail)
        bounds = [bound for bound in (min, max) if bound is not None]
        texts = [isinstance(bound, str) for bound in bounds]
        if not bounds or any(texts) != all(texts):
            raise InputError(f"the check range was given min={min!r}, max={max!r}", hint="give at least one, both of one type")
        self.column, self.min, self.max = column, min, max
        self._timed = all(texts)
        self._low, self._high = self._scalar(min), self._scalar(max)
        if self._low is not None and self._high is not None and not pc.less_equal(self._low, self._high).as_py():
            raise InputError(f"the check range was given min={min!r} and max={max!r}", hint="min must not be greater than max")

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that is looked at."""
        return (self.column,)

    @property
    def reason(self) -> str:
        """Why a row is bad."""
        if self.min is None:
            return f"{self.column} must be at most {self.max}"
        if self.max is None:
            return f"{self.column} must be at least {self.min}"
        return f"{self.column} must be between {self.min} and {self.max}"

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for each row whose value is there and outside the bounds."""
        require_columns(self.columns, batch.schema.names, what="the check range")
        values = self._comparable(plain(batch.column(self.column)))
        bad = np.zeros(batch.num_rows, dtype=bool)
        for bound, outside in ((self._low, pc.less), (self._high, pc.greater)):
            if bound is not None:
                bad |= np.asarray(outside(values, bound).fill_null(False).to_numpy(zero_copy_only=False))
        return bad

    def _scalar(self, bound: Bound | None) -> pa.Scalar | None:
        if not isinstance(bound, str):
            if bound is not None and bound != bound:  # noqa: PLR0124  only NaN differs from itself
                raise InputError("the check range was given NaN as a bound", hint="leave a bound out where there is none")
            if isinstance(bound, int) and not -(2**63) <= bound < 2**63:
                raise InputError(f"the check range is given the bound {shown(bound)}", hint="whole numbers of up to 64 bits are allowed")
            return None if bound is None else pa.scalar(bound)
        moment = read_timestamps(pa.array([bound]))[0]
        if not moment.is_valid:
            raise InputError(f"the check range was given the bound {bound!r}", hint="write a number, or a point in time as 2024-01-31")
        return moment

    def _comparable(self, values: pa.Array) -> pa.Array:
        if pa.types.is_null(values.type):
            return values.cast(self._kind())
        if self._timed:
            return read_timestamps(values)
        if not is_number(values.type):
            raise ColumnError(
                f"the check range reads the column {self.column!r}, which holds {values.type} where numbers are needed",
                hint="bounds of a column of timestamps are written as text: min: '2024-01-31'",
            )
        if pa.types.is_uint64(values.type):  # Arrow compares none of 64 bits with a signed bound, and no bound is larger than this
            return pc.min_element_wise(values, pa.scalar(2**63 - 1, pa.uint64()), skip_nulls=False).cast(pa.int64())
        return values

    def _kind(self) -> pa.DataType:
        return pa.timestamp("us") if self._timed else pa.float64()
