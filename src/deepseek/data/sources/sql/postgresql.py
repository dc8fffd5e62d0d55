"""PostgreSQL through ADBC: the binary COPY protocol straight into Arrow, in one transaction of REPEATABLE READ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deepseek.data.sources.sql.columns import Column, delivered
from deepseek.data.sources.sql.engines import ASKING, Engine
from deepseek.data.sources.sql.failures import talking
from deepseek.data.sources.sql.statements import Relation
from deepseek.errors import MissingExtraError

if TYPE_CHECKING:
    import sqlalchemy as sa

_ZONED = pa.timestamp("us", "UTC")
_NATIVE: dict[int, pa.DataType] = {
    16: pa.bool_(),
    17: pa.binary(),
    20: pa.int64(),
    21: pa.int16(),
    23: pa.int32(),
    25: pa.string(),
    700: pa.float32(),
    701: pa.float64(),
    1042: pa.string(),
    1043: pa.string(),
    1082: pa.date32(),
    1083: pa.time64("us"),
    1114: pa.timestamp("us"),
    1184: _ZONED,
}
"""By the type's number in PostgreSQL's catalogue, which never changes: what ADBC delivers exactly."""
_LISTS: dict[int, pa.DataType] = {
    1000: pa.bool_(),
    1005: pa.int16(),
    1007: pa.int32(),
    1016: pa.int64(),
    1021: pa.float32(),
    1022: pa.float64(),
    1009: pa.string(),
    1015: pa.string(),
}
_LISTS_AS_TEXTS = {1231, 1182, 1115, 1185, 2951}
"""Arrays of decimals, dates, times and UUIDs: an infinite one inside an array could not be told from a finite one."""
_OID, _NUMERIC, _MONEY = 26, 1700, 790
_DAYS = (-719_162, 2_932_896)
_MOMENTS = (_DAYS[0] * 86_400_000_000, (_DAYS[1] + 1) * 86_400_000_000 - 1)
_BOUNDS = {1082: _DAYS, 1083: (0, 86_399_999_999), 1114: _MOMENTS, 1184: _MOMENTS}
"""The years 1 to 9999, which Python's calendar has; ADBC wraps infinity around to some day before them. And no day has a 24th hour."""
_COMPARED = {16, 20, 21, 23, 25, 701, 1042, 1043, 1114, 1184, 1082}
_BATCH_BYTES = 8 << 20
_SESSION = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET LOCAL TimeZone = 'UTC'",
    "SET LOCAL IntervalStyle = 'iso_8601'",
    "SET LOCAL DateStyle = 'ISO'",
)
"""Casts to text must not depend on how the server is set up."""


class PostgresqlEngine(Engine):
    """Reads PostgreSQL through ADBC (https://arrow.apache.org/adbc), at about the speed at which the server writes rows.

    Args:
        address: The database.

    Raises:
        MissingExtraError: ADBC is not installed.
    """

    def describe(self, relation: Relation) -> list[Column]:
        """Return the columns; what ADBC would change silently is cast to text, or told by the number that it comes as."""
        entries = self.described(relation)
        bare = self.bare(relation, [str(entry[0]) for entry in entries])
        return [_column(entry, column) for entry, column in zip(entries, bare, strict=True)]

    def stream(
        self, statement: sa.Select[Any], columns: Sequence[Column], numbers: Sequence[int], *, rows: int
    ) -> Iterator[pa.RecordBatch]:
        """Yield the result; the server waits where the reader does."""
        try:
            from adbc_driver_postgresql import StatementOptions, dbapi
        except ImportError:
            raise MissingExtraError("adbc_driver_postgresql", "sql", f"reading {self.address}") from None
        text = self.written(statement)
        with (
            talking(self.address, doing=ASKING),
            closing(dbapi.connect(self.address.plain)) as connection,
            connection.cursor() as cursor,
        ):
            for setting in _SESSION:
                cursor.execute(setting)
            cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(_BATCH_BYTES)})
            cursor.execute(text)
            with closing(cursor.fetch_record_batch()) as reader:
                for batch in reader:
                    yield delivered(batch, columns, numbers)


def _column(entry: Sequence[Any], column: Any) -> Column:
    import sqlalchemy as sa
    from sqlalchemy.dialects.postgresql import ARRAY

    name, number = str(entry[0]), int(entry[1])
    text = sa.cast(column, sa.Text)
    if number in _NATIVE:
        compare = column if number in _COMPARED else None
        return Column(name, _NATIVE[number], column, column, compare, bounds=_BOUNDS.get(number))
    if number == _OID:
        wide = sa.cast(column, sa.BigInteger)
        return Column(name, pa.int64(), wide, column, wide)
    precision, scale = entry[4], entry[5]
    if number == _NUMERIC and precision is not None and precision <= 38 and 0 <= scale <= precision:
        return Column(name, pa.decimal128(precision, scale), column, column, column)  # NaN does not become one, and is named then
    if number in _LISTS or number in _LISTS_AS_TEXTS:
        kind = pa.list_(_LISTS.get(number, pa.string()))
        value = column if number in _LISTS else sa.cast(column, ARRAY(sa.Text))
        return Column(name, kind, value, column, None, sa.func.array_ndims(column) > 1, text)
    if number == _MONEY:
        text = sa.cast(sa.cast(column, sa.Numeric), sa.Text)
    return Column(name, pa.string(), text, text, text)
