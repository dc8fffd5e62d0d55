"""What is known of a result's columns: how each is asked for, delivered, ordered and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from sqlalchemy.sql import ColumnElement

UNREAD = "deepseek_unread"
"""A column beside the result's own: null, or `NUMBER:TEXT` where the value of the column of that number cannot be delivered."""


@dataclass(frozen=True)
class Column:
    """A column of a table or query.

    Attributes:
        name: Its name.
        type: The Arrow type that it is delivered with.
        value: What is selected: the column, or a cast of it to what the client reads exactly.
        order: What rows are ordered by, so that those which differ in this column come in a settled order.
        key: What a key is ordered by and compared with, where the database has an index of that and not of `order`.
        compare: What a filter compares; nothing where the database's comparison and Arrow's may differ.
        unread: True for values that Arrow or the client cannot hold; nothing where there are none such, or the client tells them.
        spelled: The value as text, for what is said of an unread one.
        bounds: For days and times that the client wraps around: the least and the greatest that stand for themselves, in the type's unit.
    """

    name: str
    type: pa.DataType
    value: ColumnElement[Any]
    order: ColumnElement[Any]
    compare: ColumnElement[Any] | None = None
    unread: ColumnElement[Any] | None = None
    spelled: ColumnElement[Any] | None = None
    bounds: tuple[int, int] | None = None
    key: ColumnElement[Any] | None = None

    @property
    def keyed(self) -> ColumnElement[Any]:
        """What rows are ordered by where the column is part of a unique key."""
        return self.order if self.key is None else self.key


def unread_column(columns: Sequence[Column], numbers: Sequence[int]) -> ColumnElement[Any] | None:
    """Return the expression of `UNREAD`, or nothing where every value can be delivered.

    Args:
        columns: The columns that are selected.
        numbers: The place of each among all columns of the relation.
    """
    import sqlalchemy as sa

    cases = [
        (column.unread, sa.literal(f"{place}:").concat(column.spelled))
        for place, column in zip(numbers, columns, strict=True)
        if column.unread is not None and column.spelled is not None
    ]
    return sa.case(*cases).label(UNREAD) if cases else None


def delivered(batch: pa.RecordBatch, columns: Sequence[Column], numbers: Sequence[int]) -> pa.RecordBatch:
    """Return a client's batch with the types that were announced; what does not fit is null and named in the last column.

    Args:
        batch: The selected columns in order, then `UNREAD`, where it was selected.
        columns: What was selected.
        numbers: The place of each among all columns of the table.
    """
    more = batch.num_columns > len(columns)
    unread = _plain(batch.column(len(columns)), pa.string()) if more else pa.nulls(batch.num_rows, pa.string())
    arrays = []
    for column, place, array in zip(columns, numbers, batch.columns, strict=False):
        try:
            values = _plain(array, column.type)
            if column.bounds is not None:
                values, unread = _within(values, column.bounds, place=place, unread=unread)
            if pa.types.is_string(column.type):
                values, unread = _text(values, place=place, unread=unread)
            arrays.append(values)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            values, unread = convert(_storage(array).to_pylist(), column.type, place=place, unread=unread)
            arrays.append(values)
    return pa.record_batch([*arrays, unread], names=[*(column.name for column in columns), UNREAD])


def convert(values: Sequence[Any], kind: pa.DataType, *, place: int, unread: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Bring values to a type one by one: the slow way, where some do not fit.

    Returns:
        The values, null where one does not fit, and `unread` with those named in it.
    """
    kept: list[Any] = []
    said = unread.to_pylist()
    for row, value in enumerate(values):
        try:
            kept.append(None if value is None else _exact(value, kind))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, ValueError):
            kept.append(None)
            said[row] = said[row] or f"{place}:{value!r:.200}"
    return pa.array(kept, kind), pa.array(said, pa.string())


def _text(array: pa.Array, *, place: int, unread: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return a column of texts without what is no UTF-8: a database may hold any bytes as text, and clients do not look."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        kept, said = array.view(pa.binary()).to_pylist(), unread.to_pylist()
        for row, value in enumerate(kept):
            try:
                kept[row] = None if value is None else value.decode()
            except UnicodeDecodeError:
                kept[row], said[row] = None, said[row] or f"{place}:{value!r:.200}"
        return pa.array(kept, pa.string()), pa.array(said, pa.string())
    return array, unread


def _within(array: pa.Array, bounds: tuple[int, int], *, place: int, unread: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return a column of days or times without what lies outside of its bounds, and `unread` with that named in it."""
    numbers = array.view(pa.int32() if pa.types.is_date32(array.type) else pa.int64())
    ends = pc.min_max(numbers)
    least, most = ends["min"].as_py(), ends["max"].as_py()
    if least is None or (least >= bounds[0] and most <= bounds[1]):
        return array, unread
    outside = pc.or_(pc.less(numbers, bounds[0]), pc.greater(numbers, bounds[1])).fill_null(False)
    said = unread.to_pylist()
    for row in pc.indices_nonzero(outside).to_pylist():
        said[row] = said[row] or f"{place}:{_far(numbers[row].as_py(), array.type)}"
    return pc.if_else(outside, pa.scalar(None, array.type), array), pa.array(said, pa.string())


def _far(number: int, kind: pa.DataType) -> str:
    """Return what a wrapped number was before: PostgreSQL counts from the year 2000, and infinity is its last number or its first."""
    bits, start = (32, 10_957) if pa.types.is_date32(kind) else (64, 946_684_800_000_000)
    if pa.types.is_time(kind):
        return "24:00:00"
    counted = number - start
    counted += 2**bits if counted < -(2 ** (bits - 1)) else 0
    if counted in (2 ** (bits - 1) - 1, -(2 ** (bits - 1))):
        return "infinity" if counted > 0 else "-infinity"
    years = (counted / 365.2425) if bits == 32 else (counted / 365.2425 / 86_400_000_000)
    return f"a day of about the year {2000 + years:.0f}"


def said_of(text: str, names: Sequence[str]) -> tuple[str, str]:
    """Return the reason and the value that an entry of `UNREAD` stands for."""
    place, _, raw = text.partition(":")
    return f"the value of {names[int(place)]!r} cannot be held by its type", raw


def _exact(value: Any, kind: pa.DataType) -> Any:
    if isinstance(value, str) and not pa.types.is_string(kind):
        return pa.scalar(value).cast(kind).as_py()
    return pa.scalar(value, kind).as_py()


def _storage(array: pa.Array) -> pa.Array:
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _plain(array: pa.Array, kind: pa.DataType) -> pa.Array:
    plain = _storage(array)
    return plain if plain.type == kind else plain.cast(kind)
