"""What arrays a prepared dataset has, and which of them share a block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from deepseek.data.transforms.base import Array, Ragged

FORMAT_VERSION = 1
Role = Literal["input", "target", "weight"]


@dataclass(frozen=True)
class Column:
    """One array of a dataset.

    Attributes:
        name: Its key in the batch.
        role: Where in the batch it goes.
        dtype: Its NumPy type.
        shape: One row's shape; of a ragged column, one element's.
        ragged: Whether rows are of unequal length.
    """

    name: str
    role: Role
    dtype: str
    shape: tuple[int, ...] = ()
    ragged: bool = False

    @property
    def width(self) -> int:
        """How many elements a row (or element) has."""
        return math.prod(self.shape)


Layout = tuple[Column, ...]


def widths(layout: Layout) -> dict[str, int]:
    """Return how many elements a row of each type's block has."""
    result: dict[str, int] = {}
    for column in layout:
        if not column.ragged:
            result[column.dtype] = result.get(column.dtype, 0) + column.width
    return result


def layout_of(arrays: Mapping[str, Array], targets: Mapping[str, Array], *, weighted: bool) -> Layout:
    """Return the layout for arrays like these."""
    columns = [column_of(name, "input", array) for name, array in arrays.items()]
    columns += [column_of(name, "target", array) for name, array in targets.items()]
    return (*columns, Column("weight", "weight", "float32")) if weighted else tuple(columns)


def column_of(name: str, role: Role, array: Array) -> Column:
    """Return what describes an array like this one."""
    if isinstance(array, Ragged):
        return Column(name, role, str(array.values.dtype), array.values.shape[1:], ragged=True)
    return Column(name, role, str(array.dtype), array.shape[1:])
