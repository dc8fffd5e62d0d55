"""What scikit-learn's users hand in (arrays, frames, lists) as Arrow tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.sources.memory import MemorySource, is_table
from deepseek.errors import InputError


class EstimatorError(InputError, ValueError):
    """What an estimator was given is wrong; a `ValueError` too, as scikit-learn's tools expect."""


def is_frame(x: object) -> bool:
    """Whether a table brings columns with types of their own, so that it is not to be made one matrix."""
    if isinstance(x, list | tuple | np.ndarray):
        return isinstance(x, list) and bool(x) and all(isinstance(row, Mapping) for row in x)
    return not hasattr(x, "tocsr") and is_table(x)  # one of SciPy's sparse matrices is a mapping


def frame_table(x: Any) -> tuple[pa.Table, bool]:
    """Return a frame's columns, and whether they are named (a pandas frame may have numbers for names); its index is no column.

    Raises:
        EstimatorError: It is a single column.
    """
    if getattr(x, "ndim", 2) != 2:
        raise EstimatorError(f"Expected 2D array, got a {type(x).__name__} of one dimension", hint="give a table: X[['column']]")
    named = True
    if hasattr(x, "reset_index"):
        x = x.reset_index(drop=True)
        named = all(isinstance(name, str) for name in x.columns)
    source = MemorySource(x)
    return pa.Table.from_batches(source.read(), source.schema()), named


def matrix_table(x: np.ndarray, names: list[str], *, texts: Collection[str] = ()) -> pa.Table:
    """Return a matrix's columns: numbers, or texts where a column of objects or texts holds anything that is no number.

    Args:
        x: The matrix.
        names: Its columns' names.
        texts: The columns that were texts in `fit`, and are so again, whatever these rows hold: `01` is not 1.

    Raises:
        TypeError: A value is neither text nor number.
    """
    plain = x.dtype.kind in "biuf"
    return pa.table({name: x[:, place] if plain else _column(x[:, place], is_text=name in texts) for place, name in enumerate(names)})


def _column(values: np.ndarray, *, is_text: bool) -> pa.Array:
    numbers = None if is_text else _numbers(values)
    if numbers is not None:
        return pa.array(numbers)
    texts = (None if value is None or value != value else _text(value) for value in values.tolist())  # noqa: PLR0124 (NaN)
    return pa.array(texts, pa.string())


def _numbers(values: np.ndarray) -> np.ndarray | None:
    try:
        return values.astype(np.float64)
    except ValueError:
        return None


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def unused_name(wanted: str, taken: list[str]) -> str:
    """Return a column's name that no other column bears."""
    while wanted in taken:
        wanted += "_"
    return wanted


def target_name(y: object) -> str:
    """Return the name that a column of targets bears, or `target`."""
    name = getattr(y, "name", None)
    return name if isinstance(name, str) and name else "target"
