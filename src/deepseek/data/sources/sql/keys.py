"""The key of the last row that came: what a read goes on from, and what shows that no two rows share it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.sources.sql.columns import Column
from deepseek.errors import DataError


class KeyTrail:
    """Follows the keys of the rows of a read.

    Args:
        key: The columns that order the rows.
        checked: Whether to see that every row has a key, and that no two rows in a row share it.

    Attributes:
        rows: How many rows came.
    """

    def __init__(self, key: Sequence[Column], *, checked: bool) -> None:
        self._key = tuple(key)
        self._checked = checked
        self._last: list[pa.Array] = []
        self.rows = 0

    def follow(self, batch: pa.RecordBatch) -> None:
        """Take note of a batch.

        Raises:
            DataError: A row has no key, or the key of the row before it.
        """
        if self._key and batch.num_rows:
            arrays = [batch.column(column.name) for column in self._key]
            if self._checked:
                self._check(arrays)
            self._last = [array.slice(len(array) - 1, 1) for array in arrays]
        self.rows += batch.num_rows

    def last(self) -> list[tuple[Column, Any]]:
        """Return the columns of the key with their values in the last row; nothing before the first."""
        return [(column, array[0].as_py()) for column, array in zip(self._key, self._last, strict=False)]

    def shown(self) -> str:
        """Return the last key in words."""
        return ", ".join(f"{column.name} = {value!r}" for column, value in self.last())

    def _check(self, arrays: list[pa.Array]) -> None:
        names = ", ".join(column.name for column in self._key)
        hint = f"add columns until no two rows share them all, as order_by: [{names}, id]; or leave order_by out: then all columns decide"
        absent = reduce(pc.or_, (array.is_null() for array in arrays))
        if pc.any(absent).as_py():
            raise DataError(f"row {self.rows + pc.index(absent, True).as_py()} has no value of order_by ({names})", hint=hint)
        joined = [pa.concat_arrays([last, array]) for last, array in zip(self._last, arrays, strict=True)] if self._last else arrays
        same = reduce(pc.and_, (pc.equal(array[1:], array[:-1]) for array in joined))
        if pc.any(same).as_py():
            row = self.rows + pc.index(same, True).as_py() - (1 if self._last else 0)
            raise DataError(f"the rows {row} and {row + 1}, counted from 0, share the value of order_by ({names})", hint=hint)
