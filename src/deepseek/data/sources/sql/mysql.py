"""MySQL and MariaDB through connectorx: one statement, which is one consistent snapshot, as a stream of Arrow batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deepseek.data.sources.files import plain_type
from deepseek.data.sources.sql.columns import Column, delivered
from deepseek.data.sources.sql.drain import Drain
from deepseek.data.sources.sql.engines import ASKING, Engine
from deepseek.data.sources.sql.failures import talking
from deepseek.data.sources.sql.statements import Reading, Relation
from deepseek.errors import MissingExtraError

if TYPE_CHECKING:
    import sqlalchemy as sa

_DECIMALS = {0, 246}
_TIMESTAMP, _DATE, _TIME, _DATETIME, _BIT, _GEOMETRY, _JSON = 7, 10, 11, 12, 16, 255, 245
_TEXTS = {252, 253, 254}
_UTC = "SET time_zone = '+00:00'"
"""A `timestamp` is delivered in the session's time zone."""


class MysqlEngine(Engine):
    """Reads MySQL and MariaDB through connectorx (https://github.com/sfu-db/connector-x).

    connectorx reads as fast as it can, whatever its reader does; what the reader is not ready for waits on disk (`Drain`).

    Args:
        address: The database.

    Raises:
        MissingExtraError: connectorx is not installed.
    """

    def describe(self, relation: Relation) -> list[Column]:
        """Return the columns; decimals and times come as text, and dates that are none, as 0000-00-00, are named."""
        entries = self.described(relation)
        bare = self.bare(relation, [str(entry[0]) for entry in entries])
        columns = [_column(entry, column) for entry, column in zip(entries, bare, strict=True)]
        statement = Reading(tuple(columns), ()).select([column.name for column in columns]).limit(0)
        with talking(self.address, doing=ASKING):
            schema = self._open(self.written(statement), 1).schema
        return [_typed(column, schema.field(place).type) for place, column in enumerate(columns)]

    def stream(
        self, statement: sa.Select[Any], columns: Sequence[Column], numbers: Sequence[int], *, rows: int
    ) -> Iterator[pa.RecordBatch]:
        """Yield the result."""
        text = self.written(statement)
        with talking(self.address, doing=ASKING):
            for batch in Drain(lambda: iter(self._open(text, rows))).read():
                if batch.num_rows:
                    yield delivered(batch, columns, numbers)

    def _open(self, text: str, rows: int) -> pa.RecordBatchReader:
        try:
            import connectorx
        except ImportError:
            raise MissingExtraError("connectorx", "sql", f"reading {self.address}") from None
        return connectorx.read_sql(self.address.plain, text, return_type="arrow_stream", batch_size=rows, pre_execution_query=[_UTC])


def _column(entry: Sequence[Any], column: Any) -> Column:
    """Return a column whose type is still open, except where it is known what it will be."""
    import sqlalchemy as sa

    name, code, width, scale = str(entry[0]), int(entry[1]), int(entry[3] or 0), int(entry[5] or 0)
    text = sa.cast(column, sa.CHAR)
    if code in _DECIMALS:
        # the width counts the point and, where there is one, the sign: the digits are these or one fewer
        digits = width - (scale > 0)
        kind = pa.decimal128(min(digits, 38), scale) if digits <= 39 and scale <= 38 else pa.string()
        return Column(name, kind, text, column, column if pa.types.is_decimal(kind) else text)
    if code in (_DATE, _DATETIME, _TIMESTAMP):
        # no day since the year 0 is that of 2024-00-10; the year 1 begins with the 366th
        good = sa.func.to_days(column) >= 366
        none = sa.func.IF(good, sa.literal(0), column.is_not(None))
        kind = pa.timestamp("us", "UTC") if code == _TIMESTAMP else pa.null()
        return Column(name, kind, sa.func.IF(good, column, sa.null()), column, column, none, text)
    if code == _TIME:
        return Column(name, pa.string(), text, column, text)
    if code == _BIT:
        number = column.op("+")(sa.literal(0))
        return Column(name, pa.uint64(), sa.cast(number, sa.BigInteger().with_variant(_unsigned(), "mysql")), column, number)
    if code == _GEOMETRY:
        shape = sa.func.ST_AsText(column)
        return Column(name, pa.string(), shape, shape)
    if code in _TEXTS or code == _JSON:
        # what a collation takes for the same still has to come in a settled order
        return Column(name, pa.null(), column, sa.cast(column, sa.BINARY), column, key=column)
    return Column(name, pa.null(), column, column, column)


def _unsigned() -> Any:
    from sqlalchemy.dialects.mysql import BIGINT

    return BIGINT(unsigned=True)


def _typed(column: Column, found: pa.DataType) -> Column:
    from dataclasses import replace

    return replace(column, type=plain_type(found)) if pa.types.is_null(column.type) else column
