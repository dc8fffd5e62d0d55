"""Rows that must not repeat a key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from deepseek.data.checks.base import Check, OnFail
from deepseek.data.columns import hash_rows, missing, named_columns, require_columns
from deepseek.statistics import SeenHashes


class UniqueCheck(Check):
    """A row is bad where its key came in an earlier row of the table; the first row of each key is good.

    A row with a missing value in the key is never bad. The keys are remembered as 64-bit hashes, 8 bytes a row: that two different keys are
    taken for one has a probability of about one in 90,000 for a table of 20 million rows (see `SeenHashes`). After the first pass, `bad`
    answers for the same rows in the same order; without one (a request in production) the rows of each batch are compared with each other.

    Args:
        column: The column whose values must differ.
        columns: Several columns whose values together must differ, instead of `column`.
        on_fail: What becomes of bad rows.

    Example:
        >>> import pyarrow as pa
        >>> UniqueCheck(column="id").bad(pa.record_batch({"id": [7, 8, 7, None, None]})).tolist()
        [False, False, True, False, False]
    """

    table_wide = True

    def __init__(self, *, column: str | None = None, columns: Sequence[str] | None = None, on_fail: OnFail = "quarantine") -> None:
        super().__init__(on_fail=on_fail)
        self._columns = named_columns(column, columns, what="the check unique")
        self._seen = SeenHashes()
        self._found: list[np.ndarray] = []
        self._repeats = np.empty(0, dtype=np.int64)
        self._observed = 0
        self._asked = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the key."""
        return self._columns

    @property
    def reason(self) -> str:
        """Why a row is bad."""
        return f"{' with '.join(self._columns)} must be unique"

    def observe(self, batch: pa.RecordBatch) -> None:
        """Remember the keys of a batch."""
        self._found.append(np.flatnonzero(self._repeated(batch, self._seen)) + self._observed)
        self._observed += batch.num_rows

    def finish(self) -> None:
        """End the first pass: keep the places of the repeated keys, forget the keys."""
        self._repeats = np.concatenate(self._found) if self._found else np.empty(0, dtype=np.int64)
        self._seen, self._found, self._asked = SeenHashes(), [], 0

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for each row that repeats a key."""
        if not self._observed:
            return self._repeated(batch, SeenHashes())
        start, self._asked = self._asked, (self._asked + batch.num_rows) % self._observed
        low, high = np.searchsorted(self._repeats, (start, start + batch.num_rows))
        bad = np.zeros(batch.num_rows, dtype=bool)
        bad[self._repeats[low:high] - start] = True
        return bad

    def _repeated(self, batch: pa.RecordBatch, seen: SeenHashes) -> np.ndarray:
        require_columns(self._columns, batch.schema.names, what="the check unique")
        complete = ~np.logical_or.reduce([missing(batch.column(name)) for name in self._columns])
        repeated = np.zeros(batch.num_rows, dtype=bool)
        repeated[complete] = seen.add(hash_rows(batch, self._columns)[complete])
        return repeated
