"""Training rows that came before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa

from deepseek.data.cleaning.base import Cleaner
from deepseek.data.columns import hash_rows, require_columns
from deepseek.fields import Schema
from deepseek.statistics import SeenHashes

_WHAT = "the cleaner duplicates"


class DuplicateCleaner(Cleaner):
    """Leaves out training rows that equal an earlier one; validation, test and production keep every row.

    Rows are compared by 64-bit hashes, 8 bytes a row: that two different rows are taken for one has a probability of about one in 90,000
    for a table of 20 million rows (see `SeenHashes`). A missing value equals another missing one.

    Args:
        columns: The columns that must be equal; where not given, every input and target but no id: rows that differ in the target alone
            are kept.
    """

    def __init__(self, *, columns: Sequence[str] | None = None) -> None:
        self.columns = columns
        self._compared: tuple[str, ...] = ()
        self._seen = SeenHashes()

    def begin(self, schema: Schema) -> None:
        """Choose the columns and forget the rows seen."""
        if self.columns is not None:
            require_columns(self.columns, schema.names, what=_WHAT)
        self._compared = tuple(self.columns or [field.name for field in (*schema.inputs, *schema.targets)])
        self._seen = SeenHashes()

    def start(self) -> None:
        """Forget the rows seen."""
        self._seen = SeenHashes()

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch as it is."""
        return batch

    def drop(self, batch: pa.RecordBatch) -> np.ndarray | None:
        """Return true for each row that equals an earlier one, of this batch or of those before."""
        return self._seen.add(hash_rows(batch, self._compared))

    def to_json(self) -> dict[str, Any]:
        """Return the columns; the rows seen are no part of it."""
        return {"columns": list(self._compared)}

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._compared = tuple(state["columns"])
        return self
