"""The writer of a server's journal: one for each process, each with a file of its own."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self
from uuid import uuid4

from deepseek.artifacts import plain_disk_errors, sync_folder
from deepseek.errors import RunError
from deepseek.serving.journal import records
from deepseek.serving.journal.records import SUFFIX, Answered, Outcomes, Schemas, Unanswered, framed

log = logging.getLogger("deepseek.serving")

LIMIT_BYTES = 1_000_000_000
ROTATE_BYTES = 16_000_000
LOOK_AGAIN_S = 0.05
"""A full journal is measured again after so long: its reader may have made room."""
_SHARES = 64
"""The folder is measured whenever a writer has added the limit's so-manieth part: by so much each may go beyond it."""


class JournalFullError(RunError):
    """The journal has no room, or the disk does not take it: what was given is not kept."""


class Journal:
    """Writes what one process answers and is told.

    Methods may be called from several threads.

    Args:
        folder: Where the journal is; of all writers of one server the same.
        sync: Whether outcomes are on the disk itself when `outcomes` returns, so that no power cut loses them; without it they survive
            the end of processes only.
        limit_bytes: Largest size of the whole folder. Each writer may go beyond it by a sixty-fourth.
        rotate_bytes: Size at which a file is ended and another begun, so that what was read can be deleted.

    Attributes:
        dropped: How many requests' answers had no room.

    Raises:
        RunError: The folder cannot be written to.
    """

    def __init__(self, folder: Path, *, sync: bool = True, limit_bytes: int = LIMIT_BYTES, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._folder, self._sync, self._limit = folder, sync, limit_bytes
        self._rotate = min(rotate_bytes, max(limit_bytes // _SHARES, 1))
        self._name = f"{time.time_ns():020d}-{os.getpid()}-{uuid4().hex[:8]}"
        self._number = 0
        self._lock = Lock()
        self._room = 0
        self._full_at = -LOOK_AGAIN_S
        self.dropped = 0
        self._file: _File | None = None
        with plain_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._current()

    def answers(self, entry: Answered | Unanswered) -> bool:
        """Append the answers of a request, or that there are none; return whether there was room. They survive the end of this process."""
        try:
            if isinstance(entry, Unanswered):
                payload = records.plain_payload(entry)
                with self._lock:
                    self._append(self._current(), records.UNANSWERED, payload)
                return True
            rows, answers = records.plain_parts(entry)
            with self._lock:
                file = self._current()
                schemas = self._schemas(file, f"{entry.model}@{entry.version}", (rows.schema, answers.schema))
                self._append(file, records.ANSWERED, records.answered_payload(entry, rows, answers, schemas=schemas))
        except JournalFullError:
            self.dropped += 1
            return False
        return True

    def outcomes(self, entry: Outcomes) -> None:
        """Append outcomes, and wait until they are durable; calls at the same time wait for the disk together.

        Raises:
            JournalFullError: They are not kept: there is no room.
        """
        payload = records.plain_payload(entry)
        with self._lock:
            file = self._current()
            self._append(file, records.OUTCOMES, payload)
            end = file.size
        if self._sync:
            try:
                file.sync(end)
            except OSError as error:  # whether the disk has them nobody knows now: they are told again, and ids make them one
                raise JournalFullError(f"the journal cannot be written: {error}") from None

    def close(self) -> None:
        """End the file: its reader need not wait for more."""
        with self._lock:
            if self._file is not None:
                self._end(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _schemas(self, file: _File, key: str, schemas: Schemas) -> int:
        known = file.schemas.get(key)
        if known is None or not all(old.equals(new, check_metadata=True) for old, new in zip(known[1], schemas, strict=True)):
            known = (file.numbers, schemas)
            self._append(file, records.SCHEMAS, records.schemas_payload(*known))
            file.schemas[key] = known
            file.numbers += 1
        return known[0]

    def _append(self, file: _File, kind: int, payload: bytes) -> None:
        record = framed(file.mark, kind, payload)
        if len(record) > self._room and not self._has_room(len(record)):
            if file.size > records.FILE_HEAD_BYTES:
                self._end(file)  # its reader can delete what it has read, which makes room
            raise JournalFullError(
                f"the journal has reached its limit of {self._limit:,} bytes", hint="its reader is behind, or has stopped"
            )
        try:
            file.write(record)
        except OSError as error:
            self._end(file, whole=False)
            raise JournalFullError(f"the journal cannot be written: {error}", hint="the disk may be full") from None
        self._room -= len(record)
        if kind != records.SCHEMAS and file.size >= self._rotate:
            self._end(file)

    def _has_room(self, size: int) -> bool:
        now = time.monotonic()
        if now - self._full_at < LOOK_AGAIN_S:
            return False
        try:
            left = self._limit - _size_of(self._folder)
        except OSError as error:  # no handles are left, say: the next entry asks again
            raise JournalFullError(f"the journal {self._folder} cannot be measured: {error}") from None
        if left < size:
            self._full_at = now
            return False
        self._room = min(left, max(self._limit // _SHARES, size))
        return True

    def _current(self) -> _File:
        """Return the file to write to, a new one where the last was ended."""
        if self._file is None:
            self._number += 1
            try:
                self._file = _File(self._folder, f"{self._name}-{self._number:06d}{SUFFIX}", sync=self._sync)
            except OSError as error:
                raise JournalFullError(f"the journal {self._folder} cannot be written: {error}", hint="the disk may be full") from None
        return self._file

    def _end(self, file: _File, *, whole: bool = True) -> None:
        self._file = None
        try:
            file.close(whole=whole, sync=self._sync)
        except OSError as error:  # its lock is gone all the same, which says as much as an end
            log.warning("a file of the journal could not be ended: %s", error)


class _File:
    """One file of a writer."""

    def __init__(self, folder: Path, name: str, *, sync: bool) -> None:
        self.mark = os.urandom(records.MARK_BYTES)
        self.schemas: dict[str, tuple[int, Schemas]] = {}
        self.numbers = 0
        self.size = 0
        self._syncing = Lock()
        self._synced = 0
        self._open = True
        # under its own name only once it is locked: the reader would take it for the file of a dead writer
        partial = folder / f".{name}.part"
        self._handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            self.write(records.MAGIC + self.mark)
            partial.rename(folder / name)
            if sync:
                sync_folder(folder)
        except OSError:
            os.close(self._handle)
            for begun in (partial, folder / name):  # each entry begins one anew while the disk refuses: nothing may be left of them
                begun.unlink(missing_ok=True)
            raise

    def write(self, record: bytes) -> None:
        """Append a record whole, or leave the file as it was."""
        done = 0
        try:
            while done < len(record):
                done += os.pwrite(self._handle, memoryview(record)[done:], self.size + done)
        except OSError:
            os.ftruncate(self._handle, self.size)
            raise
        self.size += done

    def sync(self, end: int) -> None:
        """Wait until the disk has the file up to a place; one wait serves all who came before it began."""
        with self._syncing:
            if self._synced >= end:
                return
            if not self._open:
                raise OSError("the file was ended before the disk had it")
            size = self.size
            os.fsync(self._handle)
            self._synced = size

    def close(self, *, whole: bool, sync: bool) -> None:
        """End the file and let go of its lock."""
        with self._syncing:
            self._open = False
            try:
                if whole:
                    self.write(framed(self.mark, records.END, b""))
                if sync:
                    os.fsync(self._handle)
                    self._synced = self.size
            finally:
                os.close(self._handle)


def _size_of(folder: Path) -> int:
    total = 0
    with os.scandir(folder) as found:
        for one in found:
            if one.name.endswith(SUFFIX):
                try:
                    total += one.stat().st_size
                except FileNotFoundError:  # its reader has deleted it
                    continue
    return total
