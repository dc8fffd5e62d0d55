"""The databases that a log may be in: SQLite in a file, and what SQLAlchemy reaches by a URL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from deepseek.databases import with_driver
from deepseek.errors import MissingExtraError, RunError

_WAIT_S = 30.0
_FLAGGED = frozenset(f"{server}+{driver}" for server in ("mysql", "mariadb") for driver in ("pymysql", "mysqldb"))


class Database(Protocol):
    """One connection.

    Attributes:
        dialect: What the database speaks, as SQLAlchemy calls it.
    """

    dialect: str

    def begin(self) -> None:
        """Begin a transaction."""

    def commit(self) -> None:
        """Make durable what was done since `begin`."""

    def rollback(self) -> None:
        """Undo what was done since `begin`."""

    def execute(self, sql: str, rows: Sequence[Mapping[str, Any]] = ...) -> int:
        """Run a statement, once for each row of values; return how many rows it touched."""

    def query(self, sql: str, values: Mapping[str, Any] = ...) -> list[Any]:
        """Return the rows that a statement finds."""

    def columns(self, table: str) -> set[str]:
        """Return the names of a table's columns; none where there is no such table."""

    def close(self) -> None:
        """Close the connection."""


def open_database(place: str | Path) -> Database:
    """Open a database.

    Args:
        place: A file (SQLite, made where it is not there), or a URL.

    Raises:
        MissingExtraError: A URL is given and SQLAlchemy is not installed.
        RunError: The database cannot be opened.
    """
    text = str(place)
    return _Remote(text) if "://" in text else _File(Path(text))


class _File:
    """SQLite, with its write-ahead log: readers and one writer do not wait for each other, and what was committed survives a kill."""

    dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
        except (OSError, sqlite3.Error) as error:
            raise RunError(f"the log {path} cannot be opened: {error}", hint="name a file that you may write to") from None

    def begin(self) -> None:
        self._call("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._call("COMMIT")

    def rollback(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:  # it was closed meanwhile, say
            raise RunError(f"the log cannot be written: {error}") from None

    def execute(self, sql: str, rows: Sequence[Mapping[str, Any]] = ()) -> int:
        try:
            done = self._connection.executemany(sql, rows) if rows else self._connection.execute(sql)
        except sqlite3.Error as error:
            raise RunError(f"the log cannot be written: {error}") from None
        return done.rowcount

    def query(self, sql: str, values: Mapping[str, Any] = {}) -> list[Any]:
        try:
            return self._connection.execute(sql, dict(values)).fetchall()
        except sqlite3.Error as error:
            raise RunError(f"the log cannot be read: {error}") from None

    def columns(self, table: str) -> set[str]:
        return {row[1] for row in self.query(f"PRAGMA table_info({table})")}

    def close(self) -> None:
        self._connection.close()

    def _call(self, sql: str) -> None:
        try:
            self._connection.execute(sql)
        except sqlite3.Error as error:
            raise RunError(f"the log cannot be written: {error}") from None


class _Remote:
    """A database that SQLAlchemy reaches."""

    def __init__(self, url: str) -> None:
        try:
            import sqlalchemy
        except ImportError:
            raise MissingExtraError("sqlalchemy", "monitor", "a log in a database") from None
        self._errors = (sqlalchemy.exc.SQLAlchemyError, OSError)
        self._inspect = sqlalchemy.inspect
        self._text = sqlalchemy.text
        try:
            scheme, _, rest = url.partition("://")
            driver = with_driver(scheme)
            # without a flag that SQLAlchemy sets, a row that was there already counts as none that was touched
            options = {"client_flag": 0} if driver in _FLAGGED else {}
            self._engine = sqlalchemy.create_engine(f"{driver}://{rest}", pool_pre_ping=True, connect_args=options)
            self.dialect = str(self._engine.dialect.name)
            self._connection = self._engine.connect()
        except (ImportError, *self._errors) as error:
            raise RunError(
                f"the database cannot be opened: {str(error).splitlines()[0]}", hint="see that the URL and its driver are right"
            ) from None

    def begin(self) -> None:
        if not self._connection.in_transaction():
            self._call(self._connection.begin)

    def commit(self) -> None:
        self._call(self._connection.commit)

    def rollback(self) -> None:
        self._call(self._connection.rollback)

    def execute(self, sql: str, rows: Sequence[Mapping[str, Any]] = ()) -> int:
        try:
            # one statement a row: drivers do not agree on how many rows a list of them touched
            done = [self._connection.execute(self._text(sql), dict(row)).rowcount for row in rows or ({},)]
        except self._errors as error:
            raise RunError(f"the log cannot be written: {str(error).splitlines()[0]}") from None
        return sum(max(count, 0) for count in done)

    def query(self, sql: str, values: Mapping[str, Any] = {}) -> list[Any]:
        idle = not self._connection.in_transaction()
        try:
            return [tuple(row) for row in self._connection.execute(self._text(sql), dict(values))]
        except self._errors as error:
            raise RunError(f"the log cannot be read: {str(error).splitlines()[0]}") from None
        finally:
            if idle:
                self.rollback()  # a read opens a transaction, which would keep seeing this moment

    def columns(self, table: str) -> set[str]:
        try:
            found = self._inspect(self._connection)
            return {str(column["name"]) for column in found.get_columns(table)} if found.has_table(table) else set()
        except self._errors as error:
            raise RunError(f"the log cannot be read: {str(error).splitlines()[0]}") from None

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()

    def _call(self, act: Callable[[], Any]) -> None:
        """Do what a server that went away meanwhile does not do: whoever asked for it asks again later."""
        try:
            act()
        except self._errors as error:
            raise RunError(f"the log cannot be written: {str(error).splitlines()[0]}") from None
