"""The types that columns landed with: kept with the model, so that every later table is read and compared as the training rows were.

A text file says nothing of types: `1.50` is text in a column that also holds `abc`, and a number where it does not. What a file without
`abc` is read as must not decide which category a row has.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import EXACT, is_number, is_text, plain, spell
from deepseek.data.timestamps import read_timestamps

_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), tz=(.+)\]")
_TRUE, _FALSE = pa.array(["true", "1"]), pa.array(["false", "0"])


def type_name(kind: pa.DataType) -> str | None:
    """Return the name under which a type is kept, or nothing for one that no value has to be brought to: lists, tensors, decimals."""
    name = "string" if is_text(kind) else str(kind)
    try:
        return name if named_type(name) == (pa.string() if is_text(kind) else kind) else None
    except ValueError:
        return None


def named_type(name: str) -> pa.DataType:
    """Return the type that `type_name` named.

    Raises:
        ValueError: The name is none.
    """
    zoned = _ZONED.fullmatch(name)
    return pa.timestamp(zoned[1], zoned[2]) if zoned else pa.type_for_alias(name)


def as_type(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a column as the type that it had in training, or as it is where that would change a value.

    Booleans and 0 and 1 stand for each other; text that spells numbers or booleans throughout is read as these; whole numbers are brought
    to integers and back. Numbers become text as `spell` writes them.

    Args:
        column: The values, of any type.
        kind: The type of training.

    Example:
        >>> as_type(pa.array([True, None]), pa.int64()).to_pylist(), as_type(pa.array(["True", "0"]), pa.bool_()).to_pylist()
        ([1, None], [True, False])
    """
    values = plain(column) if not isinstance(column, pa.ExtensionArray) else column
    if values.type == kind or not (_is_plain(values.type) and _is_plain(kind)):
        return column
    try:
        if pa.types.is_boolean(kind):
            return _as_boolean(values)
        if is_text(kind):
            return _as_text(values)
        return _as_number(values, kind)
    except pa.ArrowInvalid:
        return column


def spelled_as(column: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    """Return a column that `as_type` left as it was, each value for itself as text: spelled as those of the type of training are.

    So a single value that is none of that type changes nothing for the rows around it. What cannot be read as the type stays as it stands.

    Args:
        column: Text; numbers where there were booleans; points in time where there were such of another type. Any other column is returned
            as it is.
        kind: The type of training.
        name: The column's name, for messages.

    Example:
        >>> spelled_as(pa.array(["True", "maybe", "0"]), pa.bool_(), "member").to_pylist()
        ['true', 'maybe', 'false']
    """
    values = plain(column) if not isinstance(column, pa.ExtensionArray) else column
    if _is_moment(kind):
        return _spelled_moments(values, kind) if is_text(values.type) or _is_moment(values.type) else column
    apart = is_text(values.type) or (is_number(values.type) and pa.types.is_boolean(kind))
    if not apart or is_text(kind) or not _is_plain(kind):
        return column
    texts, rows = spell(values, name)
    words = pa.array([None if text is None else _spelled_as(text, kind) for text in texts], pa.string())
    return words.take(pa.array(rows, mask=rows < 0))


def _is_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _spelled_moments(values: pa.Array, kind: pa.DataType) -> pa.Array:
    read = read_timestamps(values)
    made = read.cast(kind, safe=False)
    same = pc.equal(made.cast(read.type, safe=False), read)
    words = pc.if_else(same, made.cast(pa.string()), pa.scalar(None, pa.string()))
    return pc.coalesce(words, values.cast(pa.string()))


def _spelled_as(text: str, kind: pa.DataType) -> str | None:
    read = as_type(pa.array([text]), kind)
    return text if is_text(read.type) else next(iter(spell(read.drop_null(), "")[0]), None)


def _is_plain(kind: pa.DataType) -> bool:
    return is_number(kind) or is_text(kind) or bool(pa.types.is_boolean(kind))


def _as_boolean(values: pa.Array) -> pa.Array:
    if is_text(values.type):
        bare = pc.utf8_lower(pc.utf8_trim_whitespace(values.cast(pa.string())))
        bare = pc.if_else(pc.equal(bare, ""), pa.scalar(None, pa.string()), bare)
        true, false = pc.is_in(bare, _TRUE), pc.is_in(bare, _FALSE)
        return _checked(bare, true, pc.or_(true, false))
    bare = values.cast(pa.float64(), safe=False)
    bare = pc.if_else(pc.fill_null(pc.is_nan(bare), fill_value=False), pa.scalar(None, pa.float64()), bare)
    return _checked(bare, pc.fill_null(pc.equal(bare, 1.0), fill_value=False), pc.is_in(bare, pa.array([0.0, 1.0])))


def _checked(values: pa.Array, true: pa.Array, known: pa.Array) -> pa.Array:
    absent = pc.is_null(values)
    if not pc.all(pc.or_(known, absent), min_count=0).as_py():
        raise pa.ArrowInvalid("a value is neither true nor false")
    return pc.if_else(absent, pa.scalar(None, pa.bool_()), true)


def _as_text(values: pa.Array) -> pa.Array:
    if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        numbers = values.cast(pa.float64())
        whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), float(EXACT)))
        if pc.all(whole, min_count=0).as_py():
            return numbers.cast(pa.int64()).cast(pa.string())
        return values  # spelled value by value where it is looked up
    return values.cast(pa.string())


def _as_number(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if is_text(values.type):
        bare = pc.utf8_trim_whitespace(values.cast(pa.string()))
        bare = pc.if_else(pc.equal(bare, ""), pa.scalar(None, pa.string()), bare)
        try:
            return bare.cast(kind)
        except pa.ArrowInvalid:
            values = bare.cast(pa.float64())
    elif pa.types.is_floating(values.type) and pa.types.is_floating(kind):
        return values  # the same numbers at another width
    if pa.types.is_floating(values.type) and pa.types.is_integer(kind):
        numbers = np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
        values = pa.array(numbers, mask=np.isnan(numbers))
    return values.cast(kind)
