"""The book of one experiment: each answer with its arm until its outcome comes.

It is in SQLite: a kill loses nothing, and what the journal tells again counts once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from deepseek.errors import RunError

KEPT_ROWS = 2_000_000
"""So many answers, and as many outcomes, wait for each other; beyond, the oldest are forgotten."""
MOST_KEYS = 1_000_000
"""So many keys are known one by one; beyond, a part of them that their hashes choose."""
_PIECE = 500
_TABLES = """
CREATE TABLE IF NOT EXISTS answers (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, arm INTEGER NOT NULL, phase INTEGER NOT NULL,
    bucket INTEGER NOT NULL, said TEXT NOT NULL, probability BLOB, value REAL, UNIQUE (id, arm));
CREATE TABLE IF NOT EXISTS outcomes (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, label TEXT, reward REAL);
CREATE TABLE IF NOT EXISTS told (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, at REAL NOT NULL, UNIQUE (id, at));
CREATE TABLE IF NOT EXISTS lost (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, arm INTEGER NOT NULL, UNIQUE (id, arm));
CREATE TABLE IF NOT EXISTS keys (hash INTEGER PRIMARY KEY, arm INTEGER NOT NULL, phase INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, content BLOB NOT NULL);
"""


class AnswerRow(NamedTuple):
    """One row that an arm has answered.

    Attributes:
        id: Its id.
        arm: The arm's number, 0 for the champion.
        phase: The phase.
        bucket: Its key's bucket.
        said: What was answered, as JSON.
        probability: The classes' probabilities, float32 as bytes, or nothing.
        value: What its outcome came to by the metric, or nothing yet; NaN where the outcome says nothing.
    """

    id: str
    arm: int
    phase: int
    bucket: int
    said: str
    probability: bytes | None = None
    value: float | None = None


class OutcomeRow(NamedTuple):
    """What one row was told to have come to.

    Attributes:
        id: The row's id.
        at: When that was told, in seconds since 1970.
        label: Its truth, or nothing.
        reward: What its answer was worth, or nothing.
    """

    id: str
    at: float
    label: Any = None
    reward: float | None = None


class Learned(NamedTuple):
    """What outcomes said that was not known.

    Attributes:
        labelled: The ids that have a label now and had none.
        rewarded: Those that have a reward now and had none.
        first: How many outcomes said either.
        again: How many said neither, without those that the journal tells once more.
    """

    labelled: set[str]
    rewarded: set[str]
    first: int
    again: int


class Ledger:
    """Keeps answers, outcomes and keys of one experiment.

    Args:
        path: The file.

    Raises:
        RunError: It cannot be opened now; so do all methods where it cannot be read or written now: the recorder asks again.
    """

    def __init__(self, path: Path) -> None:
        with _plain_errors():
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)  # one thread after the other
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_TABLES)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep everything that is written within, or nothing of it."""
        with _plain_errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def add_answers(self, rows: Sequence[AnswerRow]) -> list[AnswerRow]:
        """Keep answers, and return those that are new."""
        known = {(row.id, row.arm) for row in self.answers({row.id for row in rows})}
        new = list({(row.id, row.arm): row for row in reversed(rows) if (row.id, row.arm) not in known}.values())
        self._database.executemany(
            "INSERT INTO answers (id, arm, phase, bucket, said, probability, value) VALUES (?, ?, ?, ?, ?, ?, ?)", new
        )
        return new

    def answers(self, ids: Iterable[str]) -> list[AnswerRow]:
        """Return the answers of all arms with these ids."""
        found = self._of("SELECT id, arm, phase, bucket, said, probability, value FROM answers WHERE id IN", ids)
        return [AnswerRow(*row) for row in found]

    def give_values(self, rows: Iterable[AnswerRow]) -> None:
        """Keep what outcomes came to."""
        self._database.executemany("UPDATE answers SET value = ? WHERE id = ? AND arm = ?", [(row.value, row.id, row.arm) for row in rows])

    def add_lost(self, rows: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        """Keep rows that an arm did not answer, each an id with the arm's number, and return those that are new."""
        known = set(self._of("SELECT id, arm FROM lost WHERE id IN", {one for one, _ in rows}))
        new = set(rows) - known
        self._database.executemany("INSERT INTO lost (id, arm) VALUES (?, ?)", sorted(new))
        return new

    def add_outcomes(self, outcomes: Sequence[OutcomeRow]) -> Learned:
        """Keep outcomes, and return what is new of them; of each row the first label counts, and the first reward."""
        ids = {row.id for row in outcomes}
        told = set(self._of("SELECT id, at FROM told WHERE id IN", ids))
        kept: dict[str, tuple[Any, float | None]] = dict(self.outcomes(ids))
        found = Learned(set(), set(), 0, 0)
        for row in outcomes:
            label, reward = kept.get(row.id, (None, None))
            labels, rewards = label is None and row.label is not None, reward is None and row.reward is not None
            if labels or rewards:
                kept[row.id] = (row.label if labels else label, row.reward if rewards else reward)
                found = found._replace(first=found.first + 1)
                found.labelled.update([row.id] * labels)
                found.rewarded.update([row.id] * rewards)
            elif (row.id, row.at) not in told:
                found = found._replace(again=found.again + 1)
        self._write_outcomes({one: kept[one] for one in found.labelled | found.rewarded})
        self._database.executemany("INSERT OR IGNORE INTO told (id, at) VALUES (?, ?)", [(row.id, row.at) for row in outcomes])
        return found

    def _write_outcomes(self, outcomes: dict[str, tuple[Any, float | None]]) -> None:
        self._database.executemany(
            "INSERT INTO outcomes (id, label, reward) VALUES (?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET label = COALESCE(label, excluded.label), reward = COALESCE(reward, excluded.reward)",
            [(one, None if label is None else orjson.dumps(label).decode(), reward) for one, (label, reward) in outcomes.items()],
        )

    def outcomes(self, ids: Iterable[str]) -> dict[str, tuple[Any, float | None]]:
        """Return the outcomes of these ids: label and reward."""
        found = self._of("SELECT id, label, reward FROM outcomes WHERE id IN", ids)
        return {one: (None if label is None else orjson.loads(label), reward) for one, label, reward in found}

    def add_keys(self, keys: dict[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
        """Keep keys, each a hash below 2^63 with arm and phase, and return those that are new."""
        known = {row[0] for row in self._of("SELECT hash FROM keys WHERE hash IN", keys)}
        new = {key: place for key, place in keys.items() if key not in known}
        self._database.executemany("INSERT INTO keys VALUES (?, ?, ?)", [(key, *place) for key, place in new.items()])
        return new

    def keep_keys_below(self, limit: int) -> list[tuple[int, int, int]]:
        """Forget keys from a hash on, and return how many are left by arm and phase."""
        self._database.execute("DELETE FROM keys WHERE hash >= ?", (limit,))
        return list(self._database.execute("SELECT arm, phase, COUNT(*) FROM keys GROUP BY arm, phase"))

    def forget(self, *, kept: int = KEPT_ROWS) -> int:
        """Forget all but the newest answers and outcomes, and return how many were forgotten."""
        gone = dict.fromkeys(("answers", "outcomes", "told", "lost"), 0)
        for table in gone:
            gone[table] = self._database.execute(f"DELETE FROM {table} WHERE seq <= (SELECT MAX(seq) FROM {table}) - ?", (kept,)).rowcount  # noqa: S608
        return gone["answers"] + gone["outcomes"]

    def write(self, name: str, content: bytes) -> None:
        """Keep a part of the state."""
        self._database.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, content))

    def read(self) -> dict[str, bytes]:
        """Return all parts of the state."""
        with _plain_errors():
            return dict(self._database.execute("SELECT name, content FROM state"))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _of(self, query: str, ids: Iterable[Any]) -> list[tuple[Any, ...]]:
        every, found = list(ids), []
        for start in range(0, len(every), _PIECE):
            piece = every[start : start + _PIECE]
            found += self._database.execute(f"{query} ({', '.join('?' * len(piece))})", piece).fetchall()
        return found


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:  # a disk is full, say
        raise RunError(f"the counts of an experiment cannot be read or written: {error}") from None
