"""Bodies on their way: in memory while they are small, in a file beyond, hashed as they come."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from deepseek.artifacts import sync_file, sync_folder

SMALL_BYTES = 256 * 1024
"""What is no larger stays in memory, and in the index once it is accepted."""
_PIECE_BYTES = 1 << 20


class Spool:
    """Takes bytes one after the other; it is a file to write to, too.

    Args:
        folder: Where a file is made, if one is needed.
    """

    closed = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: list[bytes] = []
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Take more bytes; raises `OSError` where the disk refuses them."""
        piece = bytes(data)
        self._digest.update(piece)
        self.size += len(piece)
        if self._file is None and self.size > SMALL_BYTES:
            self._path = self._folder / uuid4().hex
            self._file = self._path.open("wb", buffering=0)
            for part in self._parts:
                _write(self._file, part)
            self._parts = []
        if self._file is None:
            self._parts.append(piece)
        else:
            _write(self._file, piece)
        return len(piece)

    def flush(self) -> None:
        """Do nothing: what is in memory stays there, and the file has no buffer."""

    def close(self) -> None:
        """Do nothing: `finish` and `discard` end it."""

    def finish(self) -> Body:
        """Return what was written."""
        if self._file is not None:
            self._file.close()
        return Body(self._folder, self.size, self._digest.hexdigest(), b"".join(self._parts) if self._path is None else None, self._path)

    def discard(self) -> None:
        """Forget it, and the file with it."""
        if self._file is not None and self._path is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)


@dataclass
class Body:
    """Bytes that have come, in memory or in a file of the spool.

    Attributes:
        folder: The spool.
        size: How many there are.
        sha256: Their hash.
        data: They themselves, where they are in memory.
        path: Their file, where they are in one.
    """

    folder: Path
    size: int
    sha256: str
    data: bytes | None
    path: Path | None

    def read(self) -> bytes:
        """Return all of them."""
        if self.data is not None:
            return self.data
        assert self.path is not None
        return self.path.read_bytes()

    def open(self) -> BinaryIO:
        """Return them as a file to read."""
        if self.data is not None:
            return io.BytesIO(self.data)
        assert self.path is not None
        return self.path.open("rb")

    def cut(self, start: int, stop: int) -> Body:
        """Return some of them as a body of its own, in a new file where that is large."""
        made = Spool(self.folder)
        try:
            with self.open() as file:
                file.seek(start)
                left = stop - start
                while left > 0 and (piece := file.read(min(left, _PIECE_BYTES))):
                    made.write(piece)
                    left -= len(piece)
        except BaseException:
            made.discard()
            raise
        return made.finish()

    @contextmanager
    def as_file(self) -> Iterator[Path]:
        """Give a file that holds them, for as long as the block runs."""
        if self.path is not None:
            yield self.path
            return
        path = self.folder / uuid4().hex
        try:
            path.write_bytes(self.read())
            yield path
        finally:
            path.unlink(missing_ok=True)

    def keep(self) -> str:
        """See that they are in a file, and that the disk has it; return its name in the spool."""
        if self.path is None:
            self.path = self.folder / uuid4().hex
            self.path.write_bytes(self.read())
        sync_file(self.path)
        sync_folder(self.folder)
        return self.path.name

    def discard(self) -> None:
        """Take their file away, where they have one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def clear(folder: Path, kept: frozenset[str]) -> int:
    """Take away what a server that died has left half received; return how many files that were.

    Args:
        folder: The spool.
        kept: The names of files that accepted contents are in.
    """
    gone = 0
    for path in folder.iterdir():
        if path.name not in kept:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                gone += 1
    return gone


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
