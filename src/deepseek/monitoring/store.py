"""The log of requests, answers and labels: SQLite in a file, or any database that SQLAlchemy reaches by URL.

What was appended is on disk when the call returns: a process that is killed loses nothing of it. An id that comes twice, as in a request
that was tried again, is kept once.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from deepseek.errors import InputError, MissingExtraError, RunError

_KEYS = {
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "postgresql": "BIGSERIAL PRIMARY KEY",
    "mysql": "BIGINT AUTO_INCREMENT PRIMARY KEY",
    "mariadb": "BIGINT AUTO_INCREMENT PRIMARY KEY",
}
_INSERTS = {
    "sqlite": ("INSERT OR IGNORE", ""),
    "postgresql": ("INSERT", " ON CONFLICT DO NOTHING"),
    "mysql": ("INSERT IGNORE", ""),
    "mariadb": ("INSERT IGNORE", ""),
}
_ID = "VARCHAR(190)"
_TABLES = (
    "deepseek_requests (seq {key}, id {id} NOT NULL UNIQUE, at DOUBLE PRECISION NOT NULL, prediction {text} NOT NULL, "
    "probability {text}, inputs {text}{index_at})",
    "deepseek_labels (seq {key}, id {id} NOT NULL, at DOUBLE PRECISION NOT NULL, label {text} NOT NULL{index_id})",
    "deepseek_pending (id {id} NOT NULL PRIMARY KEY)",
    "deepseek_outcomes (id {id} NOT NULL PRIMARY KEY)",
    "deepseek_windows (seq {key}, began DOUBLE PRECISION NOT NULL, ended DOUBLE PRECISION NOT NULL, content {text} NOT NULL)",
    "deepseek_alarms (seq {key}, at DOUBLE PRECISION NOT NULL, content {text} NOT NULL)",
    "deepseek_state (name {id} NOT NULL PRIMARY KEY, content {text} NOT NULL)",
)
JOIN = (
    "SELECT r.id, r.prediction, r.probability, l.label FROM deepseek_pending p CROSS JOIN deepseek_requests r CROSS JOIN deepseek_labels l "
    "WHERE r.id = p.id AND l.id = p.id ORDER BY l.seq LIMIT :most"
)
"""SQLite keeps the order of a `CROSS JOIN`: it begins with what waits, which is short, not with the log, which is long."""
_WAIT_S = 30.0
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}


class Request(NamedTuple):
    """A row that was answered: id, time in seconds, what was answered, the classes' probabilities, and what is kept of the inputs."""

    id: str
    at: float
    prediction: Any
    probability: list[float] | None = None
    inputs: Any = None


class Joined(NamedTuple):
    """An answer whose label has come."""

    id: str
    prediction: Any
    probability: list[float] | None
    label: Any


class _Database(Protocol):
    dialect: str

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def execute(self, sql: str, rows: Sequence[Mapping[str, Any]] = ...) -> int: ...
    def query(self, sql: str, values: Mapping[str, Any] = ...) -> list[Any]: ...
    def close(self) -> None: ...


class Store:
    """Keeps what was asked, answered and learned later.

    Args:
        place: A file (SQLite, made where it is not there), or a URL: `postgresql+psycopg://…`, `mysql+pymysql://…`.

    Raises:
        MissingExtraError: A URL is given and SQLAlchemy is not installed.
        RunError: The database cannot be opened.
    """

    def __init__(self, place: str | Path) -> None:
        self._lock = RLock()
        self._depth = 0
        text = str(place)
        self._database: _Database = _Remote(text) if "://" in text else _File(Path(text))
        dialect = self._database.dialect
        if dialect not in _KEYS:
            raise InputError(f"no log is kept in {dialect}", hint=f"allowed: a file, {', '.join(sorted(_KEYS))}")
        self._insert, self._conflict = _INSERTS[dialect]
        inlined = dialect in {"mysql", "mariadb"}  # they know no CREATE INDEX IF NOT EXISTS
        with self.transaction():
            for table in _TABLES:
                inline = {"index_at": ", INDEX (at)", "index_id": ", INDEX (id)"} if inlined else {"index_at": "", "index_id": ""}
                columns = table.format(key=_KEYS[dialect], id=_ID, text="LONGTEXT" if inlined else "TEXT", **inline)
                self._database.execute(f"CREATE TABLE IF NOT EXISTS {columns}")
            if not inlined:
                self._database.execute("CREATE INDEX IF NOT EXISTS deepseek_labels_id ON deepseek_labels (id)")
                self._database.execute("CREATE INDEX IF NOT EXISTS deepseek_requests_at ON deepseek_requests (at)")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything in the block durable together, or none of it; blocks may be nested."""
        with self._lock:
            self._depth += 1
            try:
                if self._depth == 1:
                    self._database.begin()
                yield
                if self._depth == 1:
                    self._database.commit()
            except BaseException:
                if self._depth == 1:
                    self._database.rollback()
                raise
            finally:
                self._depth -= 1

    def append_requests(self, requests: Sequence[Request]) -> int:
        """Append answered rows; return how many were new."""
        rows = [
            {
                "id": one.id,
                "at": one.at,
                "prediction": json.dumps(one.prediction),
                "probability": None if one.probability is None else json.dumps(one.probability),
                "inputs": None if one.inputs is None else json.dumps(one.inputs, ensure_ascii=False, default=str),
            }
            for one in requests
        ]
        return self._append("deepseek_requests", rows)

    def append_labels(self, labels: Sequence[tuple[str, Any]], at: float) -> int:
        """Append labels by the id of their request; a label may come before its request does. Return how many there are."""
        with self.transaction():
            added = self._append("deepseek_labels", [{"id": name, "at": at, "label": json.dumps(label)} for name, label in labels])
            # what waits to be joined stands by itself: a join looks at that alone, however long the log has become
            self._append("deepseek_pending", [{"id": name} for name in dict(labels)])
            self._database.execute("DELETE FROM deepseek_pending WHERE id IN (SELECT id FROM deepseek_outcomes)")
        return added

    def join_new(self, most: int = 10_000) -> list[Joined]:
        """Return answers whose labels have come since the last call, each once; of several labels for one id the first counts.

        Called in a `transaction` together with what is made of them, each is counted exactly once, whatever is killed in between.
        """
        with self.transaction():
            found = self._query(JOIN, {"most": most})
            first: dict[str, Joined] = {}
            for name, said, probability, label in found:
                if name not in first:
                    first[name] = Joined(
                        name, json.loads(said), None if probability is None else json.loads(probability), json.loads(label)
                    )
            self._append("deepseek_outcomes", [{"id": name} for name in first])
            if first:
                self._database.execute("DELETE FROM deepseek_pending WHERE id = :id", [{"id": name} for name in first])
            return list(first.values())

    def requests(self, *, since: float = 0.0, most: int = 100_000) -> list[Request]:
        """Return answered rows from a time on, the oldest first."""
        found = self._query(
            "SELECT id, at, prediction, probability, inputs FROM deepseek_requests WHERE at >= :since ORDER BY seq LIMIT :most",
            {"since": since, "most": most},
        )
        return [
            Request(name, at, json.loads(said), *(None if part is None else json.loads(part) for part in rest))
            for name, at, said, *rest in found
        ]

    def save_window(self, began: float, ended: float, content: Mapping[str, Any]) -> None:
        """Keep what a window came to."""
        self._append("deepseek_windows", [{"began": began, "ended": ended, "content": json.dumps(content)}])

    def windows(self, most: int = 100) -> list[dict[str, Any]]:
        """Return the latest windows, the oldest first."""
        found = self._query("SELECT began, ended, content FROM deepseek_windows ORDER BY seq DESC LIMIT :most", {"most": most})
        return [{"began": began, "ended": ended, **json.loads(content)} for began, ended, content in reversed(found)]

    def save_alarm(self, at: float, content: Mapping[str, Any]) -> None:
        """Keep an alarm's event."""
        self._append("deepseek_alarms", [{"at": at, "content": json.dumps(content)}])

    def alarms(self, most: int = 100) -> list[dict[str, Any]]:
        """Return the latest alarms' events, the oldest first."""
        found = self._query("SELECT content FROM deepseek_alarms ORDER BY seq DESC LIMIT :most", {"most": most})
        return [json.loads(content) for (content,) in reversed(found)]

    def save_state(self, name: str, content: Any) -> None:
        """Keep a value under a name, in the place of the one before."""
        with self.transaction():
            self._database.execute("DELETE FROM deepseek_state WHERE name = :name", [{"name": name}])
            self._append("deepseek_state", [{"name": name, "content": json.dumps(content)}])

    def state(self, name: str) -> Any:
        """Return what was kept under a name, or nothing."""
        found = self._query("SELECT content FROM deepseek_state WHERE name = :name", {"name": name})
        return json.loads(found[0][0]) if found else None

    def counts(self) -> dict[str, int]:
        """Return how many requests, labels and joined outcomes there are."""
        tables = ("requests", "labels", "outcomes")
        return {name: int(self._query(f"SELECT COUNT(*) FROM deepseek_{name}")[0][0]) for name in tables}  # noqa: S608 - names from here

    def delete(self, ids: Sequence[str]) -> int:
        """Forget requests with all that is kept of them, as when a person asks for it; return how many there were."""
        with self.transaction():
            rows = [{"id": name} for name in ids]
            gone = self._database.execute("DELETE FROM deepseek_requests WHERE id = :id", rows) if rows else 0
            for table in ("labels", "outcomes", "pending") if rows else ():
                self._database.execute(f"DELETE FROM deepseek_{table} WHERE id = :id", rows)  # noqa: S608
            return gone

    def forget_before(self, at: float) -> int:
        """Forget requests, labels, windows and alarms from before a time; return how many requests there were."""
        old = {"at": at}
        with self.transaction():
            for table in ("outcomes", "labels"):
                self._database.execute(
                    f"DELETE FROM deepseek_{table} WHERE id IN (SELECT id FROM deepseek_requests WHERE at < :at)",  # noqa: S608
                    [old],
                )
            gone = self._database.execute("DELETE FROM deepseek_requests WHERE at < :at", [old])
            self._database.execute("DELETE FROM deepseek_labels WHERE at < :at", [old])
            self._database.execute("DELETE FROM deepseek_pending WHERE id NOT IN (SELECT id FROM deepseek_labels)")
            self._database.execute("DELETE FROM deepseek_windows WHERE ended < :at", [old])
            self._database.execute("DELETE FROM deepseek_alarms WHERE at < :at", [old])
            return gone

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _append(self, table: str, rows: Sequence[Mapping[str, Any]]) -> int:
        if not rows:
            return 0
        names = ", ".join(rows[0])
        places = ", ".join(f":{name}" for name in rows[0])
        with self.transaction():
            sql = f"{self._insert} INTO {table} ({names}) VALUES ({places}){self._conflict}"
            return self._database.execute(sql, rows)

    def _query(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Any]:
        with self._lock:
            return self._database.query(sql, values or {})


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
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

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
        self._text = sqlalchemy.text
        try:
            scheme, _, rest = url.partition("://")
            self._engine = sqlalchemy.create_engine(f"{_DRIVERS.get(scheme, scheme)}://{rest}", pool_pre_ping=True)
            self.dialect = str(self._engine.dialect.name)
            self._connection = self._engine.connect()
        except (ImportError, *self._errors) as error:
            raise RunError(
                f"the database cannot be opened: {str(error).splitlines()[0]}", hint="see that the URL and its driver are right"
            ) from None

    def begin(self) -> None:
        if not self._connection.in_transaction():
            self._connection.begin()

    def commit(self) -> None:
        self._connection.commit()

    def rollback(self) -> None:
        self._connection.rollback()

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
                self._connection.rollback()  # a read opens a transaction, which would keep seeing this moment

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()
