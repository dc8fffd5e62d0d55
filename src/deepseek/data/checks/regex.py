"""Text that must have a form."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.checks.base import Check, OnFail
from deepseek.data.columns import is_text, plain, require_columns
from deepseek.errors import ColumnError, InputError


class RegexCheck(Check):
    """A row is bad where a text, as a whole, does not match a regular expression.

    The engine is RE2 (Cox, "Regular expression matching in the wild", 2010): its time is linear in the length of the text whatever the
    pattern, so that no pattern can be driven into catastrophic back-tracking by a request; look-around and back-references are not there.
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
        self._whole = rf"\A(?:{pattern})\z"
        for form in (pattern, self._whole):  # each by itself: `a)(b` is no pattern, though it is one inside the group
            try:
                pc.match_substring_regex(pa.array([""]), form)
            except pa.ArrowInvalid as error:
                raise InputError(
                    f"the check regex was given the pattern {pattern!r}: {error}", hint="the notation is that of RE2"
                ) from None

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
        matched = pc.match_substring_regex(values, self._whole).fill_null(True)
        return ~np.asarray(matched.to_numpy(zero_copy_only=False))
