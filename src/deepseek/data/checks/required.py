"""Values that must be there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.checks.base import Check, OnFail
from deepseek.data.columns import is_text, missing, named_columns, plain, require_columns


class RequiredCheck(Check):
    """A row is bad where a value is missing: null, NaN or, if asked for, empty text.

    The other checks say nothing about a missing value, so that each rule states one thing; add this one where a value is a must.

    Args:
        column: The column that must have a value.
        columns: Several such columns, instead of `column`; one missing value makes the row bad.
        blank: Whether text of white space alone counts as missing too.
        on_fail: What becomes of bad rows.

    Example:
        >>> import pyarrow as pa
        >>> RequiredCheck(column="age").bad(pa.record_batch({"age": [31, None]})).tolist()
        [False, True]
    """

    def __init__(
        self, *, column: str | None = None, columns: Sequence[str] | None = None, blank: bool = False, on_fail: OnFail = "quarantine"
    ) -> None:
        super().__init__(on_fail=on_fail)
        self._columns = named_columns(column, columns, what="the check required")
        self.blank = blank

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that must have a value."""
        return self._columns

    @property
    def reason(self) -> str:
        """Why a row is bad."""
        return f"{' and '.join(self._columns)} must have a value"

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for each row that lacks a value."""
        require_columns(self._columns, batch.schema.names, what="the check required")
        bad = np.zeros(batch.num_rows, dtype=bool)
        for name in self._columns:
            values = plain(batch.column(name))
            bad |= missing(values)
            if self.blank and is_text(values.type):
                bad |= np.asarray(pc.equal(pc.utf8_trim_whitespace(values), "").fill_null(False).to_numpy(zero_copy_only=False))
        return bad
