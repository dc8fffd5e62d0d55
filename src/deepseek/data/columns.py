"""Reaching into Arrow columns: names that must be there, numbers, missing values, row hashes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.errors import ColumnError, InputError, closest


def require_columns(wanted: Iterable[str], present: Iterable[str], *, what: str) -> None:
    """See that columns are in a table.

    Args:
        wanted: The names to look for.
        present: The names of the table.
        what: Who reads them, for the message: `the check range`.

    Raises:
        ColumnError: One is missing; the message names those that are there and the one that was probably meant.
    """
    names = list(present)
    for name in wanted:
        if name not in names:
            guess = closest(name, names)
            raise ColumnError(
                f"{what} reads the column {name!r}, which is not in the table; its columns: {', '.join(names) or 'none'}",
                hint=f"did you mean {guess!r}?" if guess else None,
            )


def named_columns(column: str | None, columns: Sequence[str] | None, *, what: str) -> tuple[str, ...]:
    """Return the columns that a component was given, as `column` or as `columns`.

    Raises:
        InputError: Neither or both were given, or a name stands twice.
    """
    if (column is None) == (not columns):
        raise InputError(
            f"{what} was given column={column!r}, columns={columns!r}", hint="give one name under column, or several under columns"
        )
    names = (column,) if column is not None else tuple(columns or ())
    if len(set(names)) < len(names):
        raise InputError(f"{what} was given the columns {list(names)}", hint="name each column once")
    return names


def missing(array: pa.Array) -> np.ndarray:
    """Return a boolean array `[rows]`: true where a value is missing, which NaN is as well as null."""
    return np.asarray(pc.is_null(array, nan_is_null=True).to_numpy(zero_copy_only=False), dtype=bool)


def is_number(kind: pa.DataType) -> bool:
    """Whether an Arrow type is an integer, a float or a decimal (a boolean is none)."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a string, of any layout."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def plain(array: pa.Array) -> pa.Array:
    """Return a dictionary-encoded column as the values that it stands for, a tensor column as lists, any other as it is."""
    if isinstance(array, pa.ExtensionArray):
        return array.storage
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def as_float64(array: pa.Array) -> np.ndarray:
    """Return a column of numbers as float64 `[rows]`, NaN where a value is missing.

    Raises:
        ColumnError: The column does not hold numbers.
    """
    if not (is_number(array.type) or pa.types.is_boolean(array.type) or pa.types.is_null(array.type)):
        raise ColumnError(f"a column of type {array.type} stands where numbers are needed", hint="see that the source reads it as a number")
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan)
    return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


def hash_rows(batch: pa.RecordBatch, columns: Sequence[str]) -> np.ndarray:
    """Return a 64-bit hash of each row over some columns: uint64 `[rows]`.

    Equal rows have equal hashes within a process, whatever batch they are in; the hash is not meant to be stored. A missing value equals
    another missing one; 0.0 equals -0.0.
    """
    require_columns(columns, batch.schema.names, what="a row hash")
    arrays = [plain(batch.column(name)) for name in columns]
    frame = pl.DataFrame(pa.table(arrays, names=[str(number) for number in range(len(arrays))]))
    return frame.hash_rows(seed=0).to_numpy()
