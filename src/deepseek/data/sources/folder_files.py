"""What sources share whose rows are files below one folder: the folder, the walk through it, what is no row, and batches of names."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import pyarrow as pa

from deepseek.data.sources.base import HASHED_KEY, ROOT_KEY
from deepseek.data.sources.files import FileSource, hash_files, reject_batch
from deepseek.data.sources.remote.cache import fetch_folder
from deepseek.data.sources.remote.urls import is_remote, local_path
from deepseek.errors import DataError, closest

Row = TypeVar("Row")
_BATCH_ROWS = 4_096


class FolderFilesSource(FileSource, Generic[Row]):
    """A source whose rows are files below one folder, also one of an object store.

    Files are given as their paths relative to the folder, whose own place stands in the columns' Arrow metadata under `deepseek.root`: they
    are read where they are needed.
    """

    @property
    def root(self) -> Path:
        """The folder that the paths in the table are relative to."""
        assert not isinstance(self.path, list)
        if is_remote(self.path):
            key = (str(self.path),)
            if key not in self._fetched:
                self._fetched[key] = [fetch_folder(str(self.path))]
            return self._fetched[key][0]
        return Path(os.path.normpath((self.folder / local_path(self.path)).expanduser().absolute()))

    def fingerprint(self) -> str:
        """Return the SHA-256 of every file's name and whole content."""
        return hash_files(self.files(), self.root, digests=self.digests())

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the files that are no rows, and why; `line` is null."""
        _, bad = self._items()
        if bad:
            yield reject_batch([None] * len(bad), list(bad.values()), list(bad))

    @abstractmethod
    def _items(self) -> tuple[Sequence[Row], Mapping[str, str]]:
        """Return the rows in order, and the other files with the reason why they are none."""

    @abstractmethod
    def _values(self, rows: Sequence[Row], column: str) -> list[str | None]:
        """Return a column of rows."""

    def _metadata(self) -> dict[bytes, bytes]:
        """Return the Arrow metadata of a column of paths; their content is part of the fingerprint."""
        return {ROOT_KEY: os.fsencode(self.root), HASHED_KEY: b"1"}

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        schema = self.schema()
        names = schema.names if columns is None else columns
        target = pa.schema([schema.field(name) for name in names])
        rows, _ = self._items()
        for start in range(0, len(rows), _BATCH_ROWS):
            part = rows[start : start + _BATCH_ROWS]
            yield pa.record_batch([pa.array(self._values(part, name), pa.string()) for name in names], schema=target)


def walk(root: Path) -> list[str]:
    """Return every file below a folder that is not hidden, as relative paths, sorted."""
    if not root.is_dir():
        names = [entry.name for entry in root.parent.iterdir() if entry.is_dir()] if root.parent.is_dir() else []
        guess = closest(root.name, names)
        raise DataError(f"there is no folder {str(root)!r}", hint=f"did you mean {str(root.parent / guess)!r}?" if guess else None)
    found = []
    for place, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [(Path(place) / name).relative_to(root).as_posix() for name in files if not name.startswith(".")]
    return sorted(found)
