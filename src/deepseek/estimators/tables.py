"""What scikit-learn's users hand in (arrays, frames, lists) as Arrow tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
        names: The columns' names.
        texts: Columns that are texts whatever stands in them: those of training, so that the rows beside it do not decide how a value is
            read.

    Raises:
        TypeError: A value is neither text nor number.
    """
    if x.dtype.kind in "biuf":
        return pa.table({name: x[:, place] for place, name in enumerate(names)})
    return pa.table({name: (_spelled if name in texts else _column)(x[:, place]) for place, name in enumerate(names)})


def require_finite(table: pa.Table) -> pa.Table:
    """Return a table in whose columns of numbers none is infinite.

    Raises:
        EstimatorError: One is.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not pa.types.is_floating(column.type):
            continue
        infinite = pc.is_inf(column.cast(pa.float64()))
        if pc.any(infinite).as_py():
            row = pc.index(infinite, value=True).as_py()
            raise EstimatorError(
                f"Input X contains infinity in the column {name!r}, row {row}", hint="give a number, or None or NaN for a missing value"
            )
    return table


def _column(values: np.ndarray) -> pa.Array:
    try:
        return pa.array(values.astype(np.float64))
    except ValueError:
        return _spelled(values)


def _spelled(values: np.ndarray) -> pa.Array:
    return pa.array(map(_text, values.tolist()), pa.string())


def _text(value: Any) -> str | None:
    """Return a value's spelling, as `deepseek.data.columns.spell` has it."""
    if value is None or value != value:  # noqa: PLR0124 (NaN)
        return None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float | np.floating) and value.is_integer() else str(value)


def unused_name(wanted: str, taken: list[str]) -> str:
    """Return a column's name that no other column bears."""
    while wanted in taken:
        wanted += "_"
    return wanted


def target_name(y: object) -> str:
    """Return the name that a column of targets bears, or `target`."""
    name = getattr(y, "name", None)
    return name if isinstance(name, str) and name else "target"
