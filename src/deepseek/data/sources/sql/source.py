"""A table or the result of a query, read from a database."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge, Le

from deepseek import progress
from deepseek.artifacts.files import sha256_file, sha256_json
from deepseek.data.expressions import RowExpression
from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, Source
from deepseek.data.sources.files import check_request, deliver, reject_batch, unique_names
from deepseek.data.sources.sql.address import Address
from deepseek.data.sources.sql.choice import EngineName, engine_for
from deepseek.data.sources.sql.columns import Column, said_of
from deepseek.data.sources.sql.engines import Engine
from deepseek.data.sources.sql.failures import LostError, talking
from deepseek.data.sources.sql.filters import understood
from deepseek.data.sources.sql.keys import KeyTrail
from deepseek.data.sources.sql.statements import Reading, Relation
from deepseek.data.sources.sql.tables import find_table, primary_key, unique_keys
from deepseek.errors import DataError, InputError, UnknownNameError

if TYPE_CHECKING:
    import sqlalchemy as sa

_T = TypeVar("_T")
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 8.0


class _Plan(NamedTuple):
    """What is known before the first row: which columns, in which order, and by which key to go on after a loss."""

    columns: tuple[Column, ...]
    order: tuple[Column, ...]
    key: tuple[Column, ...]
    checked: bool
    warning: str | None = None

    @property
    def unsettled(self) -> bool:
        """Whether the database does not promise that the columns of the order tell rows apart."""
        return self.checked or self.warning is not None


class SqlSource(Source):
    """Read a table, or the result of a query, from a database.

    PostgreSQL is read through ADBC, MySQL and MariaDB through connectorx, any other database through SQLAlchemy and the driver that the
    URL names. Rows come in the order of `order_by`, else of the primary key, else of all columns, in one snapshot. Where a connection is
    lost, it is made again and reading goes on behind the last row, provided that no two rows share the key that orders them.

    Args:
        folder: What the path of a database that is a file is relative to.
        url: `SCHEME://USER:PASSWORD@HOST:PORT/DATABASE`; take passwords from the environment: `${ENV:DATABASE_URL}`.
        table: A table or view, also as `schema.table`.
        query: A SELECT, in the place of a table. Its own ORDER BY has no effect: say `order_by`.
        where: Only rows for which this is true, in the language of the check `expression`: `age >= 18 and country in ["DE", "FR"]`.
        order_by: One or several columns that settle the order of the rows.
        version: A query of one row that changes when the data do, such as `select max(updated_at), count(*) from customers`: while it
            gives the same, the data are not read again. Without it they are read for every run.
        engine: What reads: `adbc` (PostgreSQL), `connectorx` (MySQL, MariaDB), `sqlalchemy` (any), or `auto`.
        retries: How often a lost connection is made again, 0 to 20, with waits of 0.25 s doubling up to 8 s in between.
    """

    def __init__(  # noqa: PLR0913 (a component's arguments are its schema)
        self,
        folder: Path = Path(),
        /,
        *,
        url: str,
        table: str | None = None,
        query: str | None = None,
        where: str | None = None,
        order_by: str | list[str] | None = None,
        version: str | None = None,
        engine: EngineName = "auto",
        retries: Annotated[int, Ge(0), Le(20)] = 6,
    ) -> None:
        super().__init__(folder)
        self._url = url
        self._table, self._query = table, query
        self._where = None if where is None else RowExpression(where)
        self._order_by = [order_by] if isinstance(order_by, str) else list(order_by or ())
        self._version = version
        self._wanted = engine
        self._retries = retries
        self._rejects: list[pa.RecordBatch] = []
        if table is not None and query is not None:
            raise InputError("both a table and a query are given", hint="name the table, or write the query")

    def schema(self) -> pa.Schema:
        """Return the columns and their types."""
        return pa.schema([pa.field(column.name, column.type) for column in self._plan.columns])

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order (see `Source.read`)."""
        wanted = check_request(self.schema(), columns, batch_rows)
        by_name = {column.name: column for column in self._plan.columns}
        own = None if self._where is None else self._where.arrow
        filters = [one for one in (own, where) if one is not None]
        found = [understood(one, by_name) for one in filters]
        needed = None if wanted is None else {*wanted}
        for one in found:
            needed = None if needed is None or one.names is None else needed | one.names
        names = [name for name in by_name if needed is None or name in needed]
        both = filters[0] if len(filters) == 1 else pc.and_kleene(*filters) if filters else None
        batches = self._batches(names, _all_of([one.sql for one in found]), batch_rows)
        return deliver(batches, columns=wanted if wanted is not None else list(by_name), where=both, batch_rows=batch_rows)

    def fingerprint(self) -> str | None:
        """Return a hash of what `version` gives, or of the file that SQLite keeps; nothing where neither is there."""
        what = [self._table, self._query, self._order_by, None if self._where is None else self._where.text]
        if self._version is not None:
            return sha256_json([str(self._engine.address), *what, self._persist(self._ask_version)])
        files = self._engine.address.stamp()
        return sha256_json([*what, *(sha256_file(Path(name)) for name, _, _ in files)]) if files else None

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the last complete read that hold a value which its column's type cannot; `line` is the row, from 0."""
        return iter(self._rejects)

    @cached_property
    def _engine(self) -> Engine:
        return engine_for(Address(self._url, self.folder), self._wanted)

    @cached_property
    def _plan(self) -> _Plan:
        return self._persist(self._make_plan)

    def _make_plan(self) -> _Plan:
        engine = self._engine
        relation = Relation(query=self._query) if self._query is not None else find_table(engine, self._table)
        columns = tuple(engine.describe(relation))
        names = unique_names([column.name for column in columns], self._table or "the query")
        if not names:
            raise DataError(f"{self._table or 'the query'} has no columns")
        by_name = {column.name: column for column in columns}
        for name in (*self._order_by, *(() if self._where is None else self._where.columns)):
            if name not in by_name:
                raise UnknownNameError("column", name, names)
        primary = primary_key(engine, relation) if self._query is None else []
        given = list(dict.fromkeys(self._order_by))
        key = given + [name for name in primary if name not in given] if given else primary
        if not key:
            what = "the query" if self._query is not None else f"the table {self._table!r}"
            said = f"{what} has no known key: its rows are ordered by all of their columns; name a key with order_by to be faster"
            return _Plan(columns, columns, (), checked=False, warning=said)
        unique, never_missing = unique_keys(engine, relation) if given else ([], set(primary))
        known = bool(primary) or any(set(one) <= set(given) for one in unique)
        ordered = tuple(by_name[name] for name in key)
        # nothing comes behind a missing value: where there may be one, reading cannot go on
        complete = not known or set(key) <= never_missing
        resumable = complete and all(_goes_on(column, known=known) for column in ordered)
        return _Plan(columns, ordered, ordered if resumable else (), checked=not known)

    def _batches(self, names: Sequence[str], where: Any, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield good rows with these columns, whatever happens to the connection on the way."""
        plan, rejects = self._plan, list[pa.RecordBatch]()
        if plan.warning is not None:
            progress.warn(plan.warning)
        selected = [*names, *(column.name for column in plan.order if plan.key or plan.checked)]
        selected = list(dict.fromkeys(selected))
        trail = KeyTrail(plan.order if plan.checked else plan.key, checked=plan.checked)
        reading = Reading(plan.columns, tuple(column.order if plan.unsettled else column.keyed for column in plan.order), where)
        for batch in self._persistently(reading, selected, trail, resumable=bool(plan.key), batch_rows=batch_rows):
            unread = batch.column(batch.num_columns - 1)
            good = batch.select(names)
            if unread.null_count < batch.num_rows:
                rejects.append(self._rejected(unread, trail.rows - batch.num_rows))
                good = good.filter(unread.is_null())
            yield good
        self._rejects = rejects

    def _persistently(
        self, reading: Reading, names: Sequence[str], trail: KeyTrail, *, resumable: bool, batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        """Yield the batches of a statement; after a lost connection, those behind the last row that came."""
        places = {column.name: place for place, column in enumerate(reading.columns)}
        numbers = [places[name] for name in names]
        columns = [reading.columns[number] for number in numbers]
        losses = 0
        while True:
            statement = reading.select(names, after=trail.last() if resumable else ())
            try:
                for batch in self._engine.stream(statement, columns, numbers, rows=batch_rows):
                    trail.follow(batch)
                    losses = 0
                    yield batch
                return
            except LostError as error:
                losses += 1
                behind = resumable and all(value is not None for _, value in trail.last())  # nothing comes behind a missing value
                if losses > self._retries or (trail.rows and not behind):
                    raise self._lost(error, trail, resumable=behind) from None
                progress.log(f"the connection to {self._engine.address} was lost after {trail.rows:,} rows; trying again")
                _wait(losses)

    def _lost(self, error: LostError, trail: KeyTrail, *, resumable: bool) -> DataError:
        address = self._engine.address
        if not trail.rows:
            return DataError(f"{address} cannot be reached: {error}", hint="is the server running, and are host and port right?")
        where = f", the last of which had {trail.shown()}," if resumable else ""
        hint = "run it again once the server is back"
        if not resumable:
            hint += "; with order_by on a unique key of whole numbers or text, reading would go on where it stopped"
        return DataError(f"the connection to {address} was lost after {trail.rows:,} rows{where} were read: {error}", hint=hint)

    def _persist(self, work: Callable[[], _T]) -> _T:
        """Do something that needs the server, again where it is lost."""
        for losses in itertools.count(1):
            try:
                return work()
            except LostError as error:
                if losses > self._retries:
                    raise self._lost(error, KeyTrail((), checked=False), resumable=False) from None
                _wait(losses)
        raise AssertionError

    def _ask_version(self) -> list[str]:
        engine = self._engine
        with talking(engine.address, doing="the query under `version` is refused"), engine.connected() as connection:
            row = connection.exec_driver_sql(str(self._version)).fetchone()
        if row is None:
            raise DataError(
                "the query under `version` gives no row", hint="write one such as select max(updated_at), count(*) from customers"
            )
        return [str(value) for value in row]

    def _rejected(self, unread: pa.Array, start: int) -> pa.RecordBatch:
        names = [column.name for column in self._plan.columns]
        rows = pc.indices_nonzero(unread.is_valid())
        said = [said_of(text, names) for text in unread.take(rows).to_pylist()]
        return reject_batch([start + row for row in rows.to_pylist()], [reason for reason, _ in said], [raw for _, raw in said])


def _goes_on(column: Column, *, known: bool) -> bool:
    """Whether a read can go on behind a value: it is delivered exactly, and the database orders it as it compares it.

    What two texts a collation takes for the same is known to the database alone: only there, a unique key is one.
    """
    return column.unread is None and (pa.types.is_integer(column.type) or (known and pa.types.is_string(column.type)))


def _all_of(conditions: Sequence[Any]) -> sa.ColumnElement[bool] | None:
    import sqlalchemy as sa

    known = [condition for condition in conditions if condition is not None]
    return sa.and_(*known) if known else None


def _wait(losses: int) -> None:
    time.sleep(min(_FIRST_WAIT_S * 2 ** (losses - 1), _LONGEST_WAIT_S))
