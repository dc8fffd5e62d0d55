"""The files of parts, which never change: each is seen, once, to be as it was written before anything of it is believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deepseek.artifacts.files import sha256_file
from deepseek.data.sources.files import reading
from deepseek.errors import DataError


class PartFiles:
    """The Parquet files of a folder, by what a manifest says of them: `name` and `sha256`.

    Args:
        folder: The folder.
        lost: What to do where a file is not there.
    """

    def __init__(self, folder: Path, *, lost: str) -> None:
        self._folder, self._lost = folder, lost
        self._seen: set[Path] = set()

    def path(self, about: Mapping[str, Any]) -> Path:
        """Return where a file is, that it is there and as it was written.

        Raises:
            DataError: It is not.
        """
        path = self._folder / str(about["name"])
        if path in self._seen:
            return path
        if not path.is_file():
            raise DataError(f"{path} is not there", hint=self._lost)
        if sha256_file(path) != about["sha256"]:
            raise DataError(f"{path} is not as it was written", hint="bring the folder back from a copy")
        self._seen.add(path)
        return path

    def schema(self, about: Mapping[str, Any]) -> pa.Schema:
        """Return a file's columns and types (see `path`)."""
        path = self.path(about)
        with reading(path):
            return pq.read_schema(path).remove_metadata()

    def table(self, about: Mapping[str, Any]) -> pa.Table:
        """Return all that a file holds (see `path`)."""
        path = self.path(about)
        with reading(path):
            return pq.read_table(path)

    def batches(self, about: Mapping[str, Any], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of a file, a batch at a time (see `path`)."""
        path = self.path(about)
        with reading(path), pq.ParquetFile(path) as opened:
            for batch in opened.iter_batches(columns=list(columns)):
                yield pa.Table.from_batches([batch])
