"""Text that must have a form."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from deepseek.data.checks.base import Check, OnFail
from deepseek.data.columns import is_text, plain, require_columns
from deepseek.data.patterns import Pattern
from deepseek.errors import ColumnError


class RegexCheck(Check):
    """A row is bad where a text, as a whole, does not match a regular expression.

    The expression is a `deepseek.data.patterns.Pattern`: linear in the length of the text, without look-around and back-references.
    A missing value is not bad.

    Args:
        column: The column to look at, which holds text.
        pattern: The expression; it must match from the first character to the last. Begin and end with `.*` to look for a part.
        on_fail: What becomes of bad rows.

    Example:
        >>> import pyarrow as pa
        >>> RegexCheck(column="zip", pattern=r"[0-9]{5}").bad(pa.record_batch({"zip": ["12345", "1234", None]})).tolist()
        [False, True, False]
    """

    def __init__(self, *, column: str, pattern: str, on_fail: OnFail = "quarantine") -> None:
        super().__init__(on_fail=on_fail)
        self.column, self.pattern = column, pattern
        self._pattern = Pattern(pattern, what="the check regex")

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that is looked at."""
        return (self.column,)

    @property
    def reason(self) -> str:
        """Why a row is bad."""
        return f"{self.column} must match {self.pattern}"

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for each row whose text is there and does not match."""
        require_columns(self.columns, batch.schema.names, what="the check regex")
        values = plain(batch.column(self.column))
        if pa.types.is_null(values.type):
            return np.zeros(batch.num_rows, dtype=bool)
        if not is_text(values.type):
            raise ColumnError(f"the check regex reads the column {self.column!r}, which holds {values.type} where text is needed")
        matched = self._pattern.whole(values).fill_null(True)
        return ~np.asarray(matched.to_numpy(zero_copy_only=False))
