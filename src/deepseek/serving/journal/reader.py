"""The reader of a server's journal: every record once it is whole, in the order of its file, and a place to go on from after a kill."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import pyarrow as pa

from deepseek.artifacts import locked, write_text
from deepseek.errors import RunError
from deepseek.serving.journal import records
from deepseek.serving.journal.records import SUFFIX, Entry, Record, Schemas

log = logging.getLogger("deepseek.serving")

MOST_BYTES = 32_000_000
"""So many bytes are read at once, whatever number of entries was asked for."""
_BLOCK_BYTES = 256 * 1024
_PLACES = "position.json"


class JournalReader:
    """Reads what the writers of a journal append, and deletes what was read and acknowledged.

    Args:
        folder: Where the journal is.

    Attributes:
        torn: Ends of files that their writers, killed, left half written.
        damaged: Stretches of files that are not as they were written, each with at least one record.

    Raises:
        RunError: Another reader has the journal.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = ExitStack()
        error = RunError(f"the journal {folder} has a reader already", hint="one process at a time reads it")
        self._lock.enter_context(locked(folder / "reader.lock", refuse=lambda _: error))
        self._files: dict[str, _File] = {}
        self._turn = 0
        self._known = self._places()
        self.torn = self.damaged = 0

    def read(self, most: int) -> list[Entry]:
        """Return the next entries, `most` at most; of each writer in the order in which they were written.

        What a writer has half written is waited for. Where its writer is dead it is passed over and counted, as is damage.
        """
        self._find()
        found: list[Entry] = []
        names = sorted(self._files)
        turn = self._turn % max(len(names), 1)
        self._turn += 1  # a writer that is always busy must not keep the others waiting
        room = MOST_BYTES
        for name in [*names[turn:], *names[:turn]]:
            if self._is_next(name, names):
                room -= self._files[name].read_into(found, most, room)
                if len(found) >= most or room <= 0:
                    break
        self.torn += sum(one.taken_torn() for one in self._files.values())
        self.damaged += sum(one.taken_damaged() for one in self._files.values())
        return found

    def acknowledge(self) -> None:
        """Make durable that everything returned so far was dealt with, and delete the files that are through."""
        for name in [name for name, one in self._files.items() if one.finished]:
            self._files.pop(name).close()
            (self._folder / name).unlink(missing_ok=True)
        places = {name: one.place for name, one in self._files.items()}
        if places != self._known:
            write_text(self._folder / _PLACES, orjson.dumps(places).decode())
            self._known = places

    def begin_again(self) -> None:
        """Go back to what was acknowledged last, as a new reader would: after an error nobody knows what of the rest was returned."""
        files, self._files = self._files, {}
        for one in files.values():
            with contextlib.suppress(OSError):  # of a handle that is given back either way
                one.close()

    @property
    def waiting_bytes(self) -> int:
        """How many bytes there are that were not read."""
        self._find()
        return sum(one.waiting_bytes for one in self._files.values())

    def close(self) -> None:
        """Let go of the journal; what was not acknowledged is read again by the next reader."""
        for one in self._files.values():
            one.close()
        self._files = {}
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _places(self) -> dict[str, Any]:
        try:
            found = orjson.loads((self._folder / _PLACES).read_bytes())
        except FileNotFoundError:
            return {}
        except orjson.JSONDecodeError:
            log.warning("%s is damaged: what the journal holds is read from its beginning", self._folder / _PLACES)
            return {}
        return dict(found)

    def _find(self) -> None:
        for path in self._folder.glob(f"*{SUFFIX}"):
            if path.name not in self._files and not path.name.startswith("."):
                self._files[path.name] = _File(path, self._known.get(path.name, {}))

    def _is_next(self, name: str, names: list[str]) -> bool:
        """Whether the earlier files of the same writer are through: a file is begun when the one before has ended."""
        writer = name.rpartition("-")[0]
        return all(self._files[other].finished for other in names if other < name and other.rpartition("-")[0] == writer)


class _File:
    """One file of a writer, and how far it was read."""

    def __init__(self, path: Path, place: Mapping[str, Any]) -> None:
        self._path = path
        self._handle = os.open(path, os.O_RDWR)  # a lock may need the right to write
        self._at: int = place.get("at", records.FILE_HEAD_BYTES)
        self._places: dict[int, int] = {int(number): at for number, at in place.get("schemas", {}).items()}
        self._schemas: dict[int, Schemas] = {}
        self._block, self._block_at = b"", 0
        self._mark: bytes | None = None
        self._writer_gone = False
        self._torn = self._damaged = 0
        self.finished = False

    @property
    def place(self) -> dict[str, Any]:
        return {"at": self._at, "schemas": {str(number): at for number, at in self._places.items()}}

    @property
    def waiting_bytes(self) -> int:
        return 0 if self.finished else max(os.fstat(self._handle).st_size - self._at, 0)

    def taken_torn(self) -> int:
        taken, self._torn = self._torn, 0
        return taken

    def taken_damaged(self) -> int:
        taken, self._damaged = self._damaged, 0
        return taken

    def read_into(self, found: list[Entry], most: int, room: int) -> int:
        """Append entries until there are `most`, or `room` bytes are read; return how many bytes were."""
        taken = 0
        while not self.finished and len(found) < most and taken < room:
            record = self._next()
            if record is None:
                self._block = b""  # its end may be half a record that is written anew
                if self._writer_gone:
                    self._end()
                elif self._lets_go():
                    self._writer_gone = True
                    continue  # what came between the last look and its end is read now
                break
            taken += record.after - self._at
            self._take(record, found)
        return taken

    def close(self) -> None:
        os.close(self._handle)

    def _take(self, record: Record, found: list[Entry]) -> None:
        try:
            if record.kind == records.SCHEMAS:
                number, schemas = records.read_schemas(record.payload)
                self._places[number], self._schemas[number] = self._at, schemas
            elif record.kind == records.ANSWERED:
                self._restore()
                found.append(records.read_answered(record.payload, self._schemas))
            elif record.kind == records.OUTCOMES:
                found.append(records.read_outcomes(record.payload))
            elif record.kind == records.UNANSWERED:
                found.append(records.read_unanswered(record.payload))
            else:
                self.finished = True
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            self._damage(self._at, record.after, f"a record cannot be understood: {error!r}")
        self._at = record.after

    def _restore(self) -> None:
        """Read the schemas that stand before the place from which this reader went on."""
        for number in self._places.keys() - self._schemas.keys():
            record = self._record(self._places[number])
            if record is not None:
                self._schemas[number] = records.read_schemas(record.payload)[1]

    def _next(self) -> Record | None:
        """Return the next whole record, or nothing where it has not come yet."""
        if self._mark is None:
            head = os.pread(self._handle, records.FILE_HEAD_BYTES, 0)
            if len(head) < records.FILE_HEAD_BYTES:
                return None
            self._mark = head[len(records.MAGIC) :]
        record = self._record(self._at)
        if record is None:
            # a writer goes on only after a record is whole: where one follows, what stands here will never become one
            after = self._following()
            self._block = b""
            # it may have been half written at the first look, and be whole since
            record = None if after is None else self._record(self._at)
            if after is not None and record is None:
                self._damage(self._at, after, "its checksum does not hold")
                self._at = after
                record = self._record(after)
        return record

    def _record(self, at: int) -> Record | None:
        assert self._mark is not None
        head = self._bytes(at, records.HEAD_BYTES)
        found = None if head is None else records.head_of(self._mark, head)
        if found is None:
            return None
        length, checksum, kind = found
        start = at + records.HEAD_BYTES
        if start + length > os.fstat(self._handle).st_size:
            return None
        payload = self._bytes(start, length)
        if payload is None or not records.is_whole(payload, checksum, kind):
            return None
        return Record(kind, payload, start + length)

    def _following(self) -> int | None:
        """Return where the next whole record begins behind one that is not."""
        assert self._mark is not None
        rest = os.pread(self._handle, max(os.fstat(self._handle).st_size - self._at, 0), self._at)
        place = rest.find(self._mark, 1)
        while place >= 0:
            if self._record(self._at + place) is not None:
                return self._at + place
            place = rest.find(self._mark, place + 1)
        return None

    def _bytes(self, at: int, count: int) -> bytes | None:
        start = at - self._block_at
        if not 0 <= start <= start + count <= len(self._block):
            self._block, self._block_at, start = os.pread(self._handle, max(count, _BLOCK_BYTES), at), at, 0
        part = self._block[start : start + count]
        return part if len(part) == count else None

    def _lets_go(self) -> bool:
        """Whether the file's writer is gone: it held the lock while it lived."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        with contextlib.suppress(OSError):
            fcntl.flock(self._handle, fcntl.LOCK_UN)
        return True

    def _end(self) -> None:
        """Pass over what a writer that was killed has half written."""
        left = self.waiting_bytes
        if left:
            self._torn += 1
            log.warning("journal %s: its writer is dead, and its last %d bytes are no whole record", self._path.name, left)
        self.finished = True

    def _damage(self, start: int, end: int, why: str) -> None:
        self._damaged += 1
        log.warning("journal %s: bytes %d to %d are passed over: %s", self._path.name, start, end, why)
