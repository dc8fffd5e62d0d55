"""A condition on the whole row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from deepseek.data.checks.base import Check, OnFail
from deepseek.data.expressions import RowExpression


class ExpressionCheck(Check):
    """A row is bad where a condition is false; where it is unknown because a value is missing the row is good, as in SQL's `CHECK`.

    Args:
        expression: The condition, in the language of `deepseek.data.expressions`: `start <= end and status in ["open", "closed"]`.
        on_fail: What becomes of bad rows.

    Example:
        >>> import pyarrow as pa
        >>> batch = pa.record_batch({"low": [1, 5, None], "high": [2, 3, 4]})
        >>> ExpressionCheck(expression="low <= high").bad(batch).tolist()
        [False, True, False]
    """

    def __init__(self, *, expression: str, on_fail: OnFail = "quarantine") -> None:
        super().__init__(on_fail=on_fail)
        self.expression = RowExpression(expression)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the condition reads."""
        return self.expression.columns

    @property
    def reason(self) -> str:
        """Why a row is bad."""
        return f"the row must satisfy: {self.expression.text}"

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for each row for which the condition is false."""
        return self.expression.evaluate(batch)[1]
