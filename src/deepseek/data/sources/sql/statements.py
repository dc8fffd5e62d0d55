"""The SQL that is sent: built as expressions and written by SQLAlchemy, so that names and values are quoted as each database wants it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from deepseek.data.sources.sql.columns import Column, unread_column

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.sql import ColumnElement

ROWS = "deepseek_rows"
"""What a query is called where it stands in another."""


@dataclass(frozen=True)
class Relation:
    """A table or a query that rows are read from.

    Attributes:
        table: The table's name.
        schema: The schema that the table is in, where one is named.
        query: A query, in the place of a table.
    """

    table: str | None = None
    schema: str | None = None
    query: str | None = None

    def rows(self, names: Sequence[str]) -> sa.FromClause:
        """Return what stands after FROM, with these columns."""
        import sqlalchemy as sa

        columns: list[Any] = [sa.column(sa.quoted_name(name, quote=True)) for name in names]
        if self.query is None:
            schema = None if self.schema is None else sa.quoted_name(self.schema, quote=True)
            return sa.table(sa.quoted_name(str(self.table), quote=True), *columns, schema=schema).alias(ROWS)
        # a colon begins a parameter for SQLAlchemy, and a comment may end the query
        text = sa.text(self.query.strip().rstrip(";").replace(":", "\\:") + "\n")
        return text.columns(*columns).subquery(ROWS)

    def no_rows(self) -> sa.Select[Any]:
        """Return a statement whose result has the columns and no row."""
        import sqlalchemy as sa

        return sa.select(sa.literal_column("*")).select_from(self.rows([])).where(sa.false())


@dataclass(frozen=True)
class Reading:
    """What is read of a relation, and in which order.

    Attributes:
        columns: Every column of the relation that is read; their expressions say which one that is.
        order: The expressions that settle the order of rows.
        where: A condition that all wanted rows fulfil; the server may send others as well.
    """

    columns: tuple[Column, ...]
    order: tuple[ColumnElement[Any], ...]
    where: ColumnElement[bool] | None = None

    def select(self, names: Sequence[str], *, after: Sequence[tuple[Column, Any]] = ()) -> sa.Select[Any]:
        """Return the statement for some columns, and `UNREAD` behind them where a value of theirs may be such.

        Args:
            names: The columns, in this order.
            after: The key of the last row that is there already; rows behind it are read.
        """
        import sqlalchemy as sa

        places = {column.name: place for place, column in enumerate(self.columns)}
        numbers = [places[name] for name in names]
        columns = [self.columns[number] for number in numbers]
        wanted: list[Any] = [column.value.label(sa.quoted_name(column.name, quote=True)) for column in columns]
        unread = unread_column(columns, numbers)
        statement = sa.select(*wanted, *(() if unread is None else (unread,)))
        for condition in (self.where, _behind(after) if after else None):
            if condition is not None:
                statement = statement.where(condition)
        return statement.order_by(*self.order)


def _behind(after: Sequence[tuple[Column, Any]]) -> ColumnElement[bool]:
    """Return what holds for rows whose key comes behind another: its first part is greater, or is the same and the next is greater."""
    import sqlalchemy as sa

    parts = [(column.keyed, sa.literal(value)) for column, value in after]
    choices = [
        sa.and_(*(column == value for column, value in parts[:place]), parts[place][0] > parts[place][1]) for place in range(len(parts))
    ]
    return reduce(sa.or_, choices)


def written(statement: Any, dialect: sa.Dialect) -> str:
    """Return a statement as the text that a driver is to be given without parameters: values are quoted as the dialect quotes them."""
    text = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    if dialect.paramstyle in ("format", "pyformat"):
        text %= ()  # such drivers take %% for %, which is doubled for them
    return text
