"""What every client that reads a database has to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deepseek.data.sources.sql.address import Address
from deepseek.data.sources.sql.failures import talking
from deepseek.data.sources.sql.statements import Relation, written

if TYPE_CHECKING:
    import sqlalchemy as sa

    from deepseek.data.sources.sql.columns import Column

ASKING = "the database refuses the query"


class Engine(ABC):
    """A client of one database. It keeps no connection between calls.

    Args:
        address: The database.
    """

    def __init__(self, address: Address) -> None:
        self.address = address

    @cached_property
    def alchemy(self) -> sa.Engine:
        """SQLAlchemy's engine, for everything but the rows."""
        return self.address.open()

    @abstractmethod
    def describe(self, relation: Relation) -> list[Column]:
        """Return the columns of a table or query.

        Raises:
            LostError: The server cannot be reached.
            DataError: It refuses.
        """

    @abstractmethod
    def stream(
        self, statement: sa.Select[Any], columns: Sequence[Column], numbers: Sequence[int], *, rows: int
    ) -> Iterator[pa.RecordBatch]:
        """Yield a statement's result in one snapshot of the database, holding few batches at a time.

        Args:
            statement: What `Reading.select` made.
            columns: The columns in it.
            numbers: The place of each among all columns of the relation.
            rows: About how many rows a batch shall hold.

        Returns:
            Batches of the columns with the types announced, and `UNREAD` behind them.

        Raises:
            LostError: The server cannot be reached, or went away.
            DataError: It refuses.
        """

    def written(self, statement: Any) -> str:
        """Return a statement as this database's SQL."""
        return written(statement, self.alchemy.dialect)

    def described(self, relation: Relation) -> list[tuple[Any, ...]]:
        """Return what the driver says of the columns: for each its name, its type's code and what else the DB API gives."""
        with talking(self.address, doing=ASKING), self.connected() as connection:
            found = connection.exec_driver_sql(self.written(relation.no_rows())).cursor
            return [tuple(entry) for entry in found.description]

    def connected(self, **options: Any) -> sa.Connection:
        """Return a connection on which a statement is taken as it is: a percent sign in it begins no parameter."""
        return self.alchemy.connect().execution_options(no_parameters=True, **options)

    def bare(self, relation: Relation, names: Sequence[str]) -> list[Any]:
        """Return the columns of a relation as expressions."""
        return list(relation.rows(names).c)
