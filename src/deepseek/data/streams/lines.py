"""A file that grows, as a stream: each line is a message."""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import pyarrow as pa

from deepseek.data.sources.files import reading
from deepseek.data.streams.base import MESSAGES, Position, Stream, no_messages
from deepseek.data.streams.waiting import Patience
from deepseek.errors import DataError, InputError

_POLL_S = 0.05


class LinesStream(Stream):
    """Follow a file that others append to: each line is a message, and its offset is the byte that it begins at.

    A line counts once its end is written. The file is one partition, called by its path. There are neither keys nor times.

    Args:
        folder: What a relative path is relative to.
        path: The file; it may come to be later.
    """

    def __init__(self, folder: Path = Path(), /, *, path: str | Path) -> None:
        super().__init__(folder)
        self.path = self.folder / Path(path).expanduser()
        self._partition = str(path)
        self._at = 0
        self._stop: int | None = None
        self._file: BufferedReader | None = None

    @property
    def name(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def identity(self) -> dict[str, Any]:
        """The path as it was given."""
        return {"type": "lines", "path": self._partition}

    def poll(self, max_rows: int = 10_000, *, timeout_s: float = 1.0) -> pa.RecordBatch:
        """Return the next whole lines."""
        patience = Patience(timeout_s)
        while not (lines := self._lines(max_rows)) and not self.finished and patience.wait(_POLL_S):
            pass
        if not lines:
            return no_messages()
        offsets = [self._at]
        for line in lines:
            offsets.append(offsets[-1] + len(line))
        self._at = offsets.pop()
        rows = len(lines)
        partition = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([self._partition]))
        values = pa.array([line.rstrip(b"\r\n") for line in lines], pa.binary())
        columns = [partition, pa.array(offsets, pa.int64()), pa.nulls(rows, MESSAGES.field("at").type), pa.nulls(rows, pa.binary()), values]
        return pa.record_batch(columns, schema=MESSAGES)

    def position(self) -> Position:
        """Return the byte at which the next line begins."""
        return {self._partition: self._at}

    def seek(self, position: Mapping[str, int | str]) -> None:
        """Go on from a byte."""
        if unknown := position.keys() - {self._partition}:
            raise DataError(f"{self.name} has no partition {min(unknown)!r}", hint=f"it has one: {self._partition!r}")
        at = int(position.get(self._partition, 0))
        size = self.path.stat().st_size if self.path.is_file() else 0
        if at > size:
            raise DataError(
                f"{self.name} ends at byte {size:,}, before the wanted {at:,}", hint="the file was cut or replaced; read it anew"
            )
        self.close()
        self._at, self._stop = at, None
        if at:
            self._opened()

    def commit(self, position: Mapping[str, int | str]) -> None:
        """Do nothing: a file keeps no account."""

    def end(self, before: str | None = None) -> Position:
        """Return the byte behind the last whole line."""
        if before is not None:
            raise InputError(f"until is {before!r}, and lines bear no times", hint="until: now, or the byte to stop at")
        if not self.path.is_file():
            return {self._partition: 0}
        with reading(self.path), self.path.open("rb") as file:
            at = file.seek(0, 2)
            while at:
                start = max(0, at - 65_536)
                file.seek(start)
                cut = file.read(at - start).rfind(b"\n")
                if cut >= 0:
                    return {self._partition: start + cut + 1}
                at = start
        return {self._partition: 0}

    def stop_at(self, position: Mapping[str, int | str]) -> None:
        """Return no line that begins at this byte or behind it."""
        self._stop = int(position.get(self._partition, self._at))

    @property
    def finished(self) -> bool:
        """Whether every line before the position of `stop_at` has come."""
        return self._stop is not None and self._at >= self._stop

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> BufferedReader | None:
        """Return the file, nothing where there is none yet; see that it is the one that was read so far."""
        if self._file is None:
            if not self.path.is_file():
                return None
            with reading(self.path):
                self._file = self.path.open("rb")
                self._file.seek(max(self._at - 1, 0))
                whole = not self._at or self._file.read(1) == b"\n"
            if not whole:
                self.close()
                raise DataError(f"no line of {self.name} begins at byte {self._at:,}", hint="the file was replaced; read it anew")
        return self._file

    def _lines(self, most: int) -> list[bytes]:
        file = self._opened()
        if file is None:
            return []
        with reading(self.path):
            if self.path.stat().st_size < self._at:
                raise DataError(f"{self.name} became shorter than the {self._at:,} bytes that were read", hint="it was cut or replaced")
            if not os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                raise DataError(f"{self.name} is another file than the one that was read", hint="it was replaced; read it anew")
            file.seek(self._at)
            lines: list[bytes] = []
            at = self._at
            while len(lines) < most and (self._stop is None or at < self._stop):
                line = file.readline()
                if not line.endswith(b"\n"):
                    break
                lines.append(line)
                at += len(line)
        return lines
