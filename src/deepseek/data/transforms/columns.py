"""Columns of a record batch as NumPy arrays, with errors that name the column, the row and the value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.errors import ColumnError, DataError, closest


def get_column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return a column of a batch.

    Raises:
        ColumnError: There is none of this name.
    """
    index = batch.schema.get_field_index(name)
    if index < 0:
        guess = closest(name, batch.schema.names)
        raise ColumnError(
            f"the table lacks the column {name!r}; it has {', '.join(map(repr, batch.schema.names)) or 'none'}",
            hint=f"did you mean {guess!r}?" if guess else None,
        )
    return batch.column(index)


def to_float64(column: pa.Array, name: str) -> np.ndarray:
    """Return numbers, booleans, decimals or numbers written as text as float64 `[rows]`; null and infinite become NaN.

    Values beyond the range of float32 count as infinite, since the model computes in float32.

    Raises:
        DataError: A text is no number, or the column cannot hold numbers.
    """
    values = _plain(column, name).astype(np.float64, copy=False)
    usable = np.abs(values) <= np.finfo(np.float32).max
    return values if usable.all() else np.where(usable, values, np.nan)


def _plain(column: pa.Array, name: str) -> np.ndarray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        column = _parse(column.cast(pa.string()), name)
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise ColumnError(f"the column {name!r} holds {kind}, which is no number", hint="say what it is in the recipe under data.kinds")
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    return values


def _parse(column: pa.Array, name: str) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(column)
    trimmed = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    try:
        return trimmed.cast(pa.float64())
    except pa.ArrowInvalid:
        row = next(row for row, text in enumerate(trimmed.to_pylist()) if text is not None and not _is_number(text))
        raise DataError(
            f"the column {name!r} is a number, but row {row} of the batch holds {column[row].as_py()!r}",
            hint="correct the value, or call the column a category under data.kinds",
        ) from None


def _is_number(text: str) -> bool:
    try:
        pa.scalar(text).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def stack(batch: pa.RecordBatch, names: Sequence[str]) -> np.ndarray:
    """Return the columns of these names as float64 `[rows, columns]`."""
    values = np.empty((batch.num_rows, len(names)))
    for index, name in enumerate(names):
        values[:, index] = to_float64(get_column(batch, name), name)
    return values


def spell(column: pa.Array, name: str) -> tuple[list[str | None], np.ndarray]:
    """Return a column's different values as text, and each row's index into them (-1 where it is null).

    Whole numbers are spelled without a point whatever their type (`1` in a text file, as an integer or as 1.0), booleans `true` and
    `false`; text is taken as it is. The cost a value is paid once for each different value of the batch.

    Raises:
        ColumnError: The column holds lists or other values that have no spelling.
    """
    kind = column.type
    if pa.types.is_null(kind):
        return [], np.full(len(column), -1)
    try:
        encoded = column if pa.types.is_dictionary(kind) else column.dictionary_encode()
        values = encoded.dictionary
        if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
            texts = [_spell_number(value) for value in values.cast(pa.float64()).to_pylist()]
        else:
            texts = values.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ColumnError(f"the column {name!r} holds {kind}, which cannot be a category", hint="leave it out or name its kind") from None
    return texts, encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def _spell_number(value: float | None) -> str | None:
    if value is None or not np.isfinite(value):
        return None
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


def look_up(column: pa.Array, name: str, codes: dict[str, int], *, unknown: int) -> np.ndarray:
    """Return each row's code, int64 `[rows]`; null and texts without a code get `unknown`."""
    texts, indices = spell(column, name)
    table = np.full(len(texts) + 1, unknown, dtype=np.int64)
    for index, text in enumerate(texts):
        if text is not None:
            table[index] = codes.get(text, unknown)
    codes_of_rows: np.ndarray = table[indices]
    return codes_of_rows
