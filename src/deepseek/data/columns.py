"""Reaching into Arrow columns: names that must be there, numbers, spellings, missing values, row hashes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.errors import ColumnError, InputError, RowError, closest

EXACT = 2**53
"""Up to here float64 holds every whole number."""
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""How many of Arrow's units of time a second has."""


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
    known = set(names)
    for name in wanted:
        if name not in known:
            guess = closest(name, names)
            raise ColumnError(
                f"{what} reads the column {name!r}, which is not in the table; its columns: {', '.join(names) or 'none'}",
                hint=f"did you mean {guess!r}?" if guess else None,
            )


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


def with_columns(batch: pa.RecordBatch, columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """Return a batch with other values in some of its columns, all at once: one after the other, each would cost a look at every column.

    Args:
        batch: The rows.
        columns: By name, columns that are there; their types may change.
    """
    if not columns:
        return batch
    fields = [field.with_type(columns[field.name].type) if field.name in columns else field for field in batch.schema]
    arrays = [columns.get(field.name, column) for field, column in zip(fields, batch.columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields, metadata=batch.schema.metadata))


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


def as_float64(array: pa.Array, name: str | None = None) -> np.ndarray:
    """Return numbers, booleans or durations (in seconds) as float64 `[rows]`, NaN where a value is missing.

    Args:
        array: The column.
        name: Its name, for the message.

    Raises:
        ColumnError: The column holds something else.
    """
    values = plain(array)
    kind = values.type
    if pa.types.is_null(kind):
        return np.full(len(values), np.nan)
    if pa.types.is_duration(kind) or pa.types.is_time(kind):
        return as_float64(values.cast(pa.int64() if kind.bit_width == 64 else pa.int32()), name) / UNITS[kind.unit]
    if not (is_number(kind) or pa.types.is_boolean(kind)):
        which = "a column" if name is None else f"the column {name!r}"
        raise ColumnError(f"{which} of type {kind} stands where numbers are needed", hint="say what it is in the recipe under data.fields")
    if kind != pa.float64():  # for a single row, a cast that changes nothing is a good part of the price
        values = values.cast(pa.float64(), safe=False)
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)


def to_float64(column: pa.Array, name: str) -> np.ndarray:
    """Return numbers, booleans, durations or numbers written as text as float64 `[rows]`; null and infinite become NaN.

    Values beyond the range of float32 count as infinite, since the model computes in float32.

    Raises:
        DataError: A text is no number, or the column cannot hold numbers.
    """
    values = plain(column)
    numbers = as_float64(parse_numbers(values.cast(pa.string()), name) if is_text(values.type) else values, name)
    usable = np.abs(numbers) <= np.finfo(np.float32).max
    return numbers if usable.all() else np.where(usable, numbers, np.nan)


def parse_numbers(column: pa.Array, name: str) -> pa.Array:
    """Return text as float64, null where it is blank.

    Raises:
        DataError: A text is no number.
    """
    trimmed = pc.utf8_trim_whitespace(column)
    trimmed = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    try:
        return trimmed.cast(pa.float64())
    except pa.ArrowInvalid:
        row = next(row for row, text in enumerate(trimmed.to_pylist()) if text is not None and not _is_number(text))
        given = column[row].as_py()
        comma = 'say decimal_point: "," of the source csv where commas part decimals, ' if _is_number(given.replace(",", ".")) else ""
        raise RowError(
            row,
            f" holds {given!r}",
            before=f"the column {name!r} is a number, but ",
            hint=f"correct it, {comma}set such rows aside with the check {{type: type, column: {name}, expected: number}}, "
            "or call the column a category under data.fields",
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


def infinite(batch: pa.RecordBatch, names: Sequence[str], values: np.ndarray) -> np.ndarray:
    """Return how many values of each column `to_float64` left out as infinite or too large: int64 `[columns]`.

    Args:
        batch: The rows.
        names: The columns.
        values: What `stack` made of them.
    """
    counts = np.zeros(len(names), dtype=np.int64)
    lost = np.isnan(values).sum(axis=0)
    for index, name in enumerate(names):
        column = plain(batch.column(name))
        if lost[index] > column.null_count and not pa.types.is_integer(column.type):
            numbers = as_float64(parse_numbers(column.cast(pa.string()), name) if is_text(column.type) else column)
            counts[index] = (np.abs(numbers) > np.finfo(np.float32).max).sum()
    return counts


def spell(column: pa.Array, name: str) -> tuple[list[str | None], np.ndarray]:
    """Return a column's different values as text, and each row's index into them (-1 where it is null).

    Whole numbers are spelled without a point whatever their type (`1` in a text file, as an integer or as 1.0), fractions with the fewest
    digits that their own width needs (`0.1` of 32 bits as of 64), booleans `true` and `false`; text is taken as it is. The cost a value is
    paid once for each different value of the batch.

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
            narrow = np.float32 if pa.types.is_float32(values.type) else None
            texts = [_spell_number(value, narrow) for value in values.cast(pa.float64()).to_pylist()]
        else:
            texts = (values if pa.types.is_string(values.type) else values.cast(pa.string())).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ColumnError(f"the column {name!r} holds {kind}, which cannot be a category", hint="leave it out or name its kind") from None
    indices = encoded.indices.fill_null(-1) if encoded.indices.null_count else encoded.indices
    return texts, indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _spell_number(value: float | None, narrow: type[np.float32] | None) -> str | None:
    if value is None or not np.isfinite(value):
        return None
    if value == int(value) and abs(value) < EXACT:
        return str(int(value))
    return repr(value if narrow is None else float(str(narrow(value))))


def look_up(column: pa.Array, name: str, codes: dict[str, int], *, unknown: int) -> np.ndarray:
    """Return each row's code, int64 `[rows]`; null and texts without a code get `unknown`."""
    texts, indices = spell(column, name)
    table = np.full(len(texts) + 1, unknown, dtype=np.int64)
    for index, text in enumerate(texts):
        if text is not None:
            table[index] = codes.get(text, unknown)
    codes_of_rows: np.ndarray = table[indices]
    return codes_of_rows


def hash_rows(batch: pa.RecordBatch, columns: Sequence[str]) -> np.ndarray:
    """Return a 64-bit hash of each row over some columns: uint64 `[rows]`.

    Equal rows have equal hashes within a process, whatever batch they are in; the hash is not meant to be stored. A missing value equals
    another missing one; 0.0 equals -0.0.
    """
    require_columns(columns, batch.schema.names, what="a row hash")
    arrays = [plain(batch.column(name)) for name in columns]
    frame = pl.DataFrame(pa.table(arrays, names=[str(number) for number in range(len(arrays))]))
    return frame.hash_rows(seed=0).to_numpy()
