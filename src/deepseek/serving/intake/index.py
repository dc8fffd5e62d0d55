"""The index: which contents came, and those of them that are in no part yet. SQLite, so that what was committed outlives kill -9.

A content exists from the moment that its row is committed, and not before: the answer 200 comes after, and whatever a server that died left
behind besides is taken away by the next one. One thread writes; requests that come at the same time share one commit, and so one wait for
the disk.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from deepseek.data.sources.ingested.manifest import Manifest, topics_of
from deepseek.serving.intake.contents import Content, rejects_table

_WAIT_S = 60.0
_MOST_TOGETHER = 256
_TABLES = """
CREATE TABLE IF NOT EXISTS contents (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL, sha256 TEXT NOT NULL,
    size INTEGER NOT NULL, media TEXT NOT NULL, attributes TEXT, rows INTEGER NOT NULL, rejected INTEGER NOT NULL,
    rejects BLOB, payload BLOB, spooled TEXT, blob TEXT, part INTEGER);
CREATE INDEX IF NOT EXISTS contents_id ON contents (topic, id);
CREATE INDEX IF NOT EXISTS contents_waiting ON contents (topic, seq) WHERE part IS NULL;
"""

_REJECTED = """
CASE WHEN rows = 0 AND EXISTS (
    SELECT 1 FROM contents AS later
    WHERE later.topic = contents.topic AND later.id = contents.id AND later.sha256 = contents.sha256 AND later.seq > contents.seq
) THEN 0 ELSE rejected END"""
"""The rejects of a content; those of one that came again, and was stored, are the later one's."""


@dataclass(frozen=True)
class Outcome:
    """What became of a content.

    Attributes:
        state: `stored` now, or a `duplicate` of one that was; `other` where its id is that of a content with other bytes.
        seq: The number of the content with this id.
    """

    state: Literal["stored", "duplicate", "other"]
    seq: int


@dataclass(frozen=True)
class Waiting:
    """A content that is in no part yet."""

    seq: int
    id: str
    at: int
    sha256: str
    size: int
    media: str
    attributes: dict[str, str]
    rows: int
    rejected: int
    rejects: bytes | None
    payload: bytes | None
    spooled: str | None
    blob: str | None


class Index:
    """The contents of one folder.

    Args:
        folder: The folder of ingested data.

    Attributes:
        waiting: How many contents are in no part yet.
        waiting_bytes: Their bytes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / "index.sqlite"
        self._lock = threading.Lock()
        self._tasks: queue.SimpleQueue[tuple[Sequence[Content], Future[list[Outcome]]] | None] = queue.SimpleQueue()
        with self._connected() as database:
            database.executescript(_TABLES)
            _recover(database, folder)
            sql = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM contents WHERE part IS NULL"
            self.waiting, self.waiting_bytes = map(int, database.execute(sql).fetchone())
        self._writer = threading.Thread(target=self._write_all, name="ingest-index", daemon=True)
        self._writer.start()

    def add(self, contents: Sequence[Content]) -> Future[list[Outcome]]:
        """Have contents committed, all or none of them; the outcomes are there once the disk has them.

        The future raises `sqlite3.Error` where the disk refuses.
        """
        done: Future[list[Outcome]] = Future()
        self._tasks.put((contents, done))
        return done

    def close(self) -> None:
        """Commit what was given, and end."""
        self._tasks.put(None)
        self._writer.join()

    def spooled(self) -> frozenset[str]:
        """Return the files of the spool that accepted contents are in."""
        with self._connected() as database:
            return frozenset(
                name for (name,) in database.execute("SELECT spooled FROM contents WHERE part IS NULL AND spooled IS NOT NULL")
            )

    def topics(self) -> list[str]:
        """Return the topics that have contents which are in no part yet."""
        with self._connected() as database:
            return [name for (name,) in database.execute("SELECT DISTINCT topic FROM contents WHERE part IS NULL ORDER BY topic")]

    def next_waiting(self, topic: str, *, most: int, most_bytes: int) -> list[Waiting]:
        """Return the first contents of a topic that are in no part yet, at least one where there is any.

        Args:
            topic: The topic.
            most: Most contents.
            most_bytes: Most bytes of rows, unless the first alone has more; blobs are only moved.
        """
        found: list[Waiting] = []
        size = 0
        names = [one.name for one in fields(Waiting)]
        with self._connected() as database:
            sql = f"SELECT {', '.join(names)} FROM contents WHERE topic = ? AND part IS NULL ORDER BY seq LIMIT ?"  # noqa: S608
            cursor = database.execute(sql, (topic, most))
            for row in cursor:
                one = Waiting(**{**dict(zip(names, row, strict=True)), "attributes": json.loads(row[6])})
                size += one.size if one.blob is None else 0
                if found and size > most_bytes:
                    break
                found.append(one)
        return found

    def is_waiting(self, topic: str, *, up_to: int) -> bool:
        """Return whether a content of a topic up to this number is in no part yet."""
        with self._connected() as database:
            sql = "SELECT 1 FROM contents WHERE topic = ? AND seq <= ? AND part IS NULL LIMIT 1"
            return database.execute(sql, (topic, up_to)).fetchone() is not None

    def settle(self, topic: str, last: int, part: int) -> list[str]:
        """Note that all contents up to a number are in parts, and forget what only these need to hold.

        Args:
            topic: Their topic.
            last: The number of the last of them.
            part: The part that it is in.

        Returns:
            The files of the spool that are needed no more.
        """
        with self._connected() as database, database:
            database.execute("BEGIN IMMEDIATE")
            sql = "SELECT size, spooled FROM contents WHERE topic = ? AND seq <= ? AND part IS NULL"
            found = database.execute(sql, (topic, last)).fetchall()
            _settle(database, topic, last, part)
        with self._lock:
            self.waiting -= len(found)
            self.waiting_bytes -= sum(size for size, _ in found)
        return [spooled for _, spooled in found if spooled is not None]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return by topic how many contents and rows it has, how many records were refused, and how many contents wait."""
        sql = (
            f"SELECT topic, COUNT(*), SUM(rows), SUM({_REJECTED}), SUM(part IS NULL), MAX(seq) FROM contents GROUP BY topic ORDER BY topic"  # noqa: S608
        )
        with self._connected() as database:
            names = ("contents", "rows", "rejected", "waiting", "last")
            return {topic: dict(zip(names, numbers, strict=True)) for topic, *numbers in database.execute(sql)}

    def _write_all(self) -> None:
        with self._connected() as database:
            while (first := self._tasks.get()) is not None:
                tasks, ended = [first], False
                while len(tasks) < _MOST_TOGETHER and not self._tasks.empty():
                    more = self._tasks.get()
                    if more is None:
                        ended = True
                        break
                    tasks.append(more)
                self._commit(database, [task for task in tasks if task[1].set_running_or_notify_cancel()])
                if ended:
                    return

    def _commit(self, database: sqlite3.Connection, tasks: Sequence[tuple[Sequence[Content], Future[list[Outcome]]]]) -> None:
        stored: list[Content] = []
        try:
            with database:
                database.execute("BEGIN IMMEDIATE")
                outcomes = [[_insert(database, content, stored) for content in contents] for contents, _ in tasks]
        except Exception as error:  # noqa: BLE001 - the edge of the thread: the error goes to those who wait, the next are written
            for _, done in tasks:
                done.set_exception(error)
            return
        with self._lock:
            self.waiting += len(stored)
            self.waiting_bytes += sum(content.size for content in stored)
        for (_, done), found in zip(tasks, outcomes, strict=True):
            done.set_result(found)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self._path, timeout=_WAIT_S, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")  # a commit has returned only once the disk has it
            yield database
        finally:
            database.close()


def _insert(database: sqlite3.Connection, content: Content, stored: list[Content]) -> Outcome:
    """Store a content, unless it is there; one of which every record was refused holds its id for nobody else.

    Neither does it for itself: the same bytes may be refused under one schema, and have rows under the next.
    """
    known = database.execute("SELECT seq, sha256, rows FROM contents WHERE topic = ? AND id = ?", (content.topic, content.id)).fetchall()
    for seq, digest, rows in known:
        if digest == content.sha256 and (rows or not content.rows):
            return Outcome("duplicate", seq)
        if rows:
            return Outcome("other", seq)
    value = {
        "topic": content.topic, "id": content.id, "at": time.time_ns() // 1000, "sha256": content.sha256, "size": content.size,
        "media": content.media, "attributes": json.dumps(content.attributes), "rows": content.rows,
        "rejected": len(content.rejects), "rejects": _packed(content), "payload": content.payload, "spooled": content.spooled,
        "blob": content.blob,
    }  # fmt: skip
    sql = f"INSERT INTO contents ({', '.join(value)}) VALUES ({', '.join(f':{name}' for name in value)})"  # noqa: S608
    stored.append(content)
    return Outcome("stored", database.execute(sql, value).lastrowid or 0)


def _packed(content: Content) -> bytes | None:
    if not content.rejects:
        return None
    sink = BytesIO()
    table = rejects_table(content.rejects)
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _settle(database: sqlite3.Connection, topic: str, last: int, part: int) -> None:
    database.execute(
        "UPDATE contents SET part = ?, attributes = NULL, rejects = NULL, payload = NULL, spooled = NULL, blob = NULL "
        "WHERE topic = ? AND seq <= ? AND part IS NULL",
        (part, topic, last),
    )


def _recover(database: sqlite3.Connection, folder: Path) -> None:
    """Bring the index to what the manifests say: a server may have died between the two, or the index may have been lost."""
    with database:
        database.execute("BEGIN IMMEDIATE")
        (last,) = database.execute("SELECT COALESCE(MAX(seq), 0) FROM contents").fetchone()
        for topic in topics_of(folder):
            manifest = Manifest.read(folder, topic)
            for part in manifest.parts:
                if part.last > last:
                    _read_back(database, folder, manifest, part, last)
            if manifest.parts:
                _settle(database, topic, manifest.version, manifest.parts[-1].number)


def _read_back(database: sqlite3.Connection, folder: Path, manifest: Manifest, part: Any, last: int) -> None:
    path = manifest.path(folder, part, "contents")
    assert path is not None
    names = ("seq", "id", "at", "sha256", "size", "media", "rows", "rejected")
    table = pq.read_table(path).rename_columns({"_seq": "seq", "_id": "id"})
    rows = [tuple(row[name] for name in names) for row in table.to_pylist() if row["seq"] > last]
    marks = ", ".join("?" * (len(names) + 2))
    database.executemany(
        f"INSERT OR IGNORE INTO contents ({', '.join(names)}, topic, part) VALUES ({marks})",  # noqa: S608
        [(*row, manifest.topic, part.number) for row in rows],
    )
