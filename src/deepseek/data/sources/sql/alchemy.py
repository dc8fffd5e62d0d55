"""Any database that SQLAlchemy reaches: rows as Python objects, whose types are found by looking at them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deepseek.data.columns import EXACT
from deepseek.data.sources.base import DEFAULT_BATCH_ROWS
from deepseek.data.sources.sql.columns import UNREAD, Column, convert
from deepseek.data.sources.sql.engines import ASKING, Engine
from deepseek.data.sources.sql.failures import talking
from deepseek.data.sources.sql.statements import Relation

if TYPE_CHECKING:
    import sqlalchemy as sa

_ZONED = "zoned"
_PLAIN: dict[Any, pa.DataType] = {
    bool: pa.bool_(),
    str: pa.string(),
    bytes: pa.binary(),
    date: pa.date32(),
    datetime: pa.timestamp("us"),
    _ZONED: pa.timestamp("us", "UTC"),
    time: pa.time64("us"),
    timedelta: pa.duration("us"),
    float: pa.float64(),
}


_LOOKED_AT: dict[tuple[Any, Relation], list[_Seen]] = {}
"""A recipe's source is opened several times on its road."""


class AlchemyEngine(Engine):
    """Reads through SQLAlchemy and the driver that a URL names, with a cursor on the server where the driver has such.

    Databases such as SQLite say nothing of the types of a query's columns, and hold values of any type in any column. So all rows are
    looked at once before they are read: a column gets the narrowest type that holds all of its values.

    Args:
        address: The database.
    """

    def describe(self, relation: Relation) -> list[Column]:
        """Return the columns, after a look at every value."""
        import sqlalchemy as sa

        names = [str(entry[0]) for entry in self.described(relation)]
        bare = self.bare(relation, names)
        seen = self._looked_at(relation, self.written(sa.select(*bare)), len(names))
        return [
            Column(name, one.type, column, column, column if one.comparable else None)
            for name, one, column in zip(names, seen, bare, strict=True)
        ]

    def _looked_at(self, relation: Relation, text: str, columns: int) -> list[_Seen]:
        """Return what the values of each column are; of a file that did not change, what was seen the last time."""
        stamp = self.address.stamp()
        if stamp is not None and (stamp, relation) in _LOOKED_AT:
            return _LOOKED_AT[stamp, relation]
        seen = [_Seen() for _ in range(columns)]
        for rows in self._rows(text, DEFAULT_BATCH_ROWS):
            for one, values in zip(seen, zip(*rows, strict=True), strict=True):
                one.look(values)
        if stamp is not None:
            _LOOKED_AT[stamp, relation] = seen
        return seen

    def stream(
        self, statement: sa.Select[Any], columns: Sequence[Column], numbers: Sequence[int], *, rows: int
    ) -> Iterator[pa.RecordBatch]:
        """Yield the result."""
        for found in self._rows(self.written(statement), rows):
            unread = pa.nulls(len(found), pa.string())
            arrays = []
            for column, place, values in zip(columns, numbers, zip(*found, strict=True), strict=False):
                array, unread = _array(values, column.type, place=place, unread=unread)
                arrays.append(array)
            yield pa.record_batch([*arrays, unread], names=[*(column.name for column in columns), UNREAD])

    def _rows(self, text: str, rows: int) -> Iterator[Sequence[Any]]:
        with talking(self.address, doing=ASKING), self.connected(stream_results=True, max_row_buffer=rows) as connection:
            result = connection.exec_driver_sql(text)
            try:
                while found := result.fetchmany(rows):
                    yield found
            except GeneratorExit:
                connection.invalidate()  # what is not wanted any more is not fetched to the end
                raise


class _Seen:
    """What the values of one column are."""

    def __init__(self) -> None:
        self.kinds: set[Any] = set()
        self.low = self.high = 0
        self.whole = self.scale = 0

    def look(self, values: Sequence[Any]) -> None:
        """Look at more values."""
        kinds = {*map(type, values)} - {type(None)}
        self.kinds |= {_kind(kind) for kind in kinds}
        if int in kinds:
            numbers = [value for value in values if type(value) is int]
            self.low, self.high = min(self.low, *numbers), max(self.high, *numbers)
        if Decimal in kinds:
            for value in values:
                if isinstance(value, Decimal) and value.is_finite():
                    _, digits, exponent = value.as_tuple()
                    self.scale = max(self.scale, -int(exponent))
                    self.whole = max(self.whole, len(digits) + int(exponent))
        if datetime in kinds and any(isinstance(value, datetime) and value.tzinfo is not None for value in values):
            self.kinds.add(_ZONED)

    @property
    def comparable(self) -> bool:
        """Whether the database compares the values as Arrow does: one kind of number, or texts."""
        return self.kinds in ({int}, {float}, {str})

    @property
    def type(self) -> pa.DataType:
        """The narrowest type that holds them all; text where that alone does."""
        kinds = self.kinds - ({datetime} if _ZONED in self.kinds else set())
        if not kinds:
            return pa.null()
        if kinds == {date, datetime}:
            return pa.timestamp("us")
        if kinds == {int}:
            return self._whole_type()
        if kinds == {int, float} and max(-self.low, self.high) <= EXACT:
            return pa.float64()
        if kinds in ({Decimal}, {Decimal, int}):
            whole = max(self.whole, len(str(max(-self.low, self.high))), 1)
            return pa.decimal128(whole + self.scale, self.scale) if whole + self.scale <= 38 else pa.string()
        return _PLAIN.get(next(iter(kinds)), pa.string()) if len(kinds) == 1 else pa.string()

    def _whole_type(self) -> pa.DataType:
        if self.low >= -(2**63) and self.high < 2**63:
            return pa.int64()
        if self.low >= 0 and self.high < 2**64:
            return pa.uint64()
        return pa.decimal128(38, 0) if max(-self.low, self.high) < 10**38 else pa.string()


def _kind(found: type) -> Any:
    """Return the kind that a Python type counts as."""
    if issubclass(found, bytearray | memoryview):
        return bytes
    for kind in (bool, int, float, str, bytes, Decimal, datetime, date, time, timedelta):
        if issubclass(found, kind):
            return kind
    return object


def _array(values: Sequence[Any], kind: pa.DataType, *, place: int, unread: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return a column, and `unread` with the values that it cannot hold."""
    if pa.types.is_string(kind):
        if {*map(type, values)} <= {str, type(None)}:
            return pa.array(values, kind), unread
        return convert([_text(value) for value in values], kind, place=place, unread=unread)
    try:
        return pa.array([_moment(value) for value in values] if pa.types.is_timestamp(kind) else values, kind), unread
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        moments = pa.types.is_timestamp(kind)
        return convert([_moment(value) if moments else value for value in values], kind, place=place, unread=unread)


def _moment(value: Any) -> Any:
    """Return a value of a column of moments as Arrow takes it: with a time zone in UTC, a date as its midnight."""
    if isinstance(value, datetime):
        return value if value.tzinfo is None else value.astimezone(UTC)
    return datetime(value.year, value.month, value.day) if isinstance(value, date) else value


def _text(value: Any) -> Any:
    """Return a value of a column of texts as text; bytes stay, and are named as what the column cannot hold."""
    if value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, list | dict | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else str(value)
