"""The log of requests, answers and labels: SQLite in a file, or any database that SQLAlchemy reaches by URL.

What was appended is on disk when the call returns: a process that is killed loses nothing of it. An id that comes twice, as in a request
that was tried again, is kept once. Several models may share a log: each sees its own part (`Store.of`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any, NamedTuple, Self

from deepseek.errors import InputError
from deepseek.monitoring.connections import open_database
from deepseek.monitoring.tables import LONGEST_ID, NAMES, Tables, state_name

_INSERTS = {
    "sqlite": ("INSERT OR IGNORE", ""),
    "postgresql": ("INSERT", " ON CONFLICT DO NOTHING"),
    "mysql": ("INSERT", " ON DUPLICATE KEY UPDATE {first} = {first}"),
    "mariadb": ("INSERT", " ON DUPLICATE KEY UPDATE {first} = {first}"),
}
JOIN = (
    "SELECT r.id, r.prediction, r.probability, l.label FROM deepseek_pending p CROSS JOIN deepseek_requests r CROSS JOIN deepseek_labels l "
    "WHERE r.id = p.id AND r.model = p.model AND l.id = p.id AND l.model = p.model{only p} ORDER BY l.seq LIMIT :most"
)
"""SQLite keeps the order of a `CROSS JOIN`: it begins with what waits, which is short, not with the log, which is long."""
LABELLED = (
    "SELECT p.id, p.at, p.inputs, l.label, l.at FROM deepseek_requests p JOIN deepseek_labels l ON l.id = p.id AND l.model = p.model "
    "WHERE p.at >= :since AND l.seq = (SELECT MIN(o.seq) FROM deepseek_labels o WHERE o.id = p.id AND o.model = p.model){only p} "
    "ORDER BY p.at DESC, p.seq DESC LIMIT :most"
)
_AT_ONCE = 500


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


class LabelledRow(NamedTuple):
    """A row that was answered and whose truth has come: id, time of the request, what is kept of the inputs, the label and its time."""

    id: str
    at: float
    inputs: Any
    label: Any
    labelled_at: float = 0.0


class Store:
    """Keeps what was asked, answered and learned later.

    Args:
        place: A file (SQLite, made where it is not there), or a URL: `postgresql+psycopg://…`, `mysql+pymysql://…`.

    Raises:
        MissingExtraError: A URL is given and SQLAlchemy is not installed.
        RunError: The database cannot be opened.
    """

    def __init__(self, place: str | Path) -> None:
        self._database = open_database(place)
        self._open = _Open()
        self._model = ""
        self._tables = Tables(self._database)
        self._insert, self._conflict = _INSERTS[self._database.dialect]
        with self.transaction():
            self._tables.make()

    def of(self, model: str) -> Self:
        """Return the part of the log that belongs to one model, over the same connection.

        What an older version has logged, for one model alone, belongs to the first model that is asked for.

        Args:
            model: What the model is known by, at most 190 characters; `deepseek.monitoring.Watcher` takes its run and its bundle's hash.
        """
        part = copy(self)
        part._model = model  # noqa: SLF001 - of the same class
        with self.transaction():
            self._tables.claim(model)
        return part

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything in the block durable together, or none of it; blocks may be nested."""
        with self._open.lock:
            self._open.depth += 1
            try:
                if self._open.depth == 1:
                    self._database.begin()
                yield
                if self._open.depth == 1:
                    self._database.commit()
            except BaseException:
                if self._open.depth == 1:
                    self._database.rollback()
                raise
            finally:
                self._open.depth -= 1

    def new_ids(self, requests: Sequence[Request]) -> set[str]:
        """Append answered rows as `append_requests` does; return the ids that were not there."""
        with self.transaction():
            last = self._query("SELECT MAX(seq) FROM deepseek_requests")[0][0] or 0
            if self.append_requests(requests) == len(requests):
                return {one.id for one in requests}
            found = self._query("SELECT id FROM deepseek_requests WHERE seq > :last{only}", {"last": last})
            return {name for (name,) in found} & {one.id for one in requests}

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
            self._database.execute(
                "DELETE FROM deepseek_pending WHERE EXISTS (SELECT 1 FROM deepseek_outcomes o "
                "WHERE o.model = deepseek_pending.model AND o.id = deepseek_pending.id)"
            )
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
                self._erase("deepseek_pending", "id = :id", [{"id": name} for name in first])
            return list(first.values())

    def requests(self, *, since: float = 0.0, most: int = 100_000) -> list[Request]:
        """Return answered rows from a time on, the oldest first."""
        found = self._query(
            "SELECT id, at, prediction, probability, inputs FROM deepseek_requests WHERE at >= :since{only} ORDER BY seq LIMIT :most",
            {"since": since, "most": most},
        )
        return [
            Request(name, at, json.loads(said), *(None if part is None else json.loads(part) for part in rest))
            for name, at, said, *rest in found
        ]

    def labelled_rows(self, *, since: float = 0.0, most: int = 20_000) -> list[LabelledRow]:
        """Return the newest rows whose labels have come, the oldest first, each once; of several labels for one id the first counts.

        Args:
            since: The earliest time of a request, in seconds.
            most: The most rows.
        """
        found = self._query(LABELLED, {"since": since, "most": most})
        return [
            LabelledRow(name, at, None if kept is None else json.loads(kept), json.loads(label), told)
            for name, at, kept, label, told in found[::-1]
        ]

    def save_window(self, began: float, ended: float, content: Mapping[str, Any]) -> None:
        """Keep what a window came to."""
        self._append("deepseek_windows", [{"began": began, "ended": ended, "content": json.dumps(content)}])

    def windows(self, most: int = 100) -> list[dict[str, Any]]:
        """Return the latest windows, the oldest first."""
        sql = "SELECT began, ended, content FROM deepseek_windows WHERE 1 = 1{only} ORDER BY seq DESC LIMIT :most"
        found = self._query(sql, {"most": most})
        return [{"began": began, "ended": ended, **json.loads(content)} for began, ended, content in reversed(found)]

    def save_alarm(self, at: float, content: Mapping[str, Any]) -> None:
        """Keep an alarm's event."""
        self._append("deepseek_alarms", [{"at": at, "content": json.dumps(content)}])

    def alarms(self, most: int = 100) -> list[dict[str, Any]]:
        """Return the latest alarms' events, the oldest first."""
        found = self._query("SELECT content FROM deepseek_alarms WHERE 1 = 1{only} ORDER BY seq DESC LIMIT :most", {"most": most})
        return [json.loads(content) for (content,) in reversed(found)]

    def alarms_after(self, seq: int) -> list[tuple[int, dict[str, Any]]]:
        """Return all alarms' events after one, with their numbers in the log, the oldest first.

        Args:
            seq: The number of the last event that is known; 0 for none.
        """
        sql = "SELECT seq, content FROM deepseek_alarms WHERE seq > :seq{only} ORDER BY seq"
        return [(int(number), json.loads(content)) for number, content in self._query(sql, {"seq": seq})]

    def save_state(self, name: str, content: Any) -> None:
        """Keep a value under a name, in the place of the one before."""
        with self.transaction():
            whole = state_name(self._model, name)
            self._database.execute("DELETE FROM deepseek_state WHERE name = :name", [{"name": whole}])
            self._append("deepseek_state", [{"name": whole, "content": json.dumps(content)}])

    def state(self, name: str) -> Any:
        """Return what was kept under a name, or nothing."""
        found = self._query("SELECT content FROM deepseek_state WHERE name = :name", {"name": state_name(self._model, name)})
        return json.loads(found[0][0]) if found else None

    def counts(self) -> dict[str, int]:
        """Return how many requests there are, labels (several of one id count once), and labels that met their request."""
        rows = "SELECT COUNT(*) FROM deepseek_{table} WHERE 1 = 1{only}"
        answers = "SELECT COUNT(*) FROM (SELECT DISTINCT model, id FROM deepseek_labels WHERE 1 = 1{only}) told"
        asked = {"requests": rows.replace("{table}", "requests"), "labels": answers, "outcomes": rows.replace("{table}", "outcomes")}
        return {name: int(self._query(sql)[0][0]) for name, sql in asked.items()}

    def known(self, ids: Sequence[str]) -> set[str]:
        """Return which ids are those of logged requests."""
        found: set[str] = set()
        for start in range(0, len(ids), _AT_ONCE):
            part = {f"id{place}": name for place, name in enumerate(ids[start : start + _AT_ONCE])}
            places = ", ".join(f":{name}" for name in part)
            sql = "SELECT id FROM deepseek_requests WHERE id IN ({places}){only}".replace("{places}", places)
            found |= {name for (name,) in self._query(sql, part)}
        return found

    def delete(self, ids: Sequence[str]) -> int:
        """Forget requests with all that is kept of them, as when a person asks for it; return how many there were."""
        with self.transaction():
            rows = [{"id": name} for name in ids]
            gone = self._erase("deepseek_requests", "id = :id", rows) if rows else 0
            for table in ("labels", "outcomes", "pending") if rows else ():
                self._erase(f"deepseek_{table}", "id = :id", rows)
            return gone

    def forget_before(self, at: float) -> int:
        """Forget requests, labels, windows and alarms from before a time; return how many requests there were."""
        old = [{"at": at}]
        with self.transaction():
            for table in ("outcomes", "labels"):
                asked = f"deepseek_requests r WHERE r.id = deepseek_{table}.id AND r.model = deepseek_{table}.model AND r.at < :at"
                self._erase(f"deepseek_{table}", f"EXISTS (SELECT 1 FROM {asked})", old)  # noqa: S608
            gone = self._erase("deepseek_requests", "at < :at", old)
            self._erase("deepseek_labels", "at < :at", old)
            waiting = "deepseek_labels l WHERE l.id = deepseek_pending.id AND l.model = deepseek_pending.model"
            self._erase("deepseek_pending", f"NOT EXISTS (SELECT 1 FROM {waiting})", [{}])  # noqa: S608
            self._erase("deepseek_windows", "ended < :at", old)
            self._erase("deepseek_alarms", "at < :at", old)
            return gone

    def close(self) -> None:
        """Close the database."""
        with self._open.lock:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _append(self, table: str, rows: Sequence[Mapping[str, Any]]) -> int:
        if not rows:
            return 0
        if table != "deepseek_state":
            rows = [{**row, "model": self._model} for row in rows]
        self._check(rows)
        names = ", ".join(rows[0])
        places = ", ".join(f":{name}" for name in rows[0])
        with self.transaction():
            sql = f"{self._insert} INTO {table} ({names}) VALUES ({places}){self._conflict.format(first=next(iter(rows[0])))}"
            return self._database.execute(sql, rows)

    def _check(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Refuse ids that the database would cut, or refuse for ever."""
        if self._tables.bounded and (long := [row[key] for row in rows for key in NAMES if len(row.get(key, "")) > LONGEST_ID]):
            shown = f"the id {long[0][:40]!r}… has {len(long[0]):,} characters"
            raise InputError(shown, hint=f"a database keeps at most {LONGEST_ID} of them")

    def _erase(self, table: str, where: str, rows: Sequence[Mapping[str, Any]]) -> int:
        sql = self._mine_of(f"DELETE FROM {table} WHERE {where}{{only}}")  # noqa: S608 - tables and conditions from here
        return self._database.execute(sql, [{**row, **self._mine} for row in rows])

    def _mine_of(self, sql: str) -> str:
        """Leave other models' rows out of a statement, unless the whole log is meant."""
        only = " AND {table}model = :model" if self._model else ""
        return sql.replace("{only}", only.replace("{table}", "")).replace("{only p}", only.replace("{table}", "p."))

    @property
    def _mine(self) -> dict[str, str]:
        return {"model": self._model} if self._model else {}

    def _query(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Any]:
        with self._open.lock:
            written = self._mine_of(sql)
            return self._database.query(written, {**(values or {}), **(self._mine if ":model" in written else {})})


@dataclass
class _Open:
    """What all parts of one log share."""

    lock: RLock = field(default_factory=RLock)
    depth: int = 0
