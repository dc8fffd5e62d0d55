"""Files that are rows by themselves: images, sounds, or texts, in a folder without classes, one by one, or by a pattern."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, Source
from deepseek.data.sources.files import check_request, deliver, hash_files
from deepseek.data.sources.folder import SUFFIXES
from deepseek.data.sources.folder_files import walk
from deepseek.data.sources.remote.cache import fetch
from deepseek.data.sources.remote.urls import is_remote, local_path
from deepseek.data.sources.text import utf8_blocks
from deepseek.data.volumes import NIFTI, is_volume, with_series
from deepseek.errors import DataError

if TYPE_CHECKING:
    import pyarrow.compute as pc

_TEXT_ROWS = 1_024


class ListedFiles(Source):
    """One row a file, in one column: the path of an image, sound or volume, the content of a text.

    Args:
        path: A file, a folder with everything below it, a pattern such as `*.png`, a file's URL, or a list of such.
        column: The column's name.
        kind: Which files are rows; others in a folder are passed over and listed in `skipped`.

    Attributes:
        names: The files' names, in the rows' order: below a folder their paths from there, else as they were given.
        skipped: The names of the files that are no rows.

    Raises:
        DataError: There is no such file.
    """

    def __init__(self, path: Any, /, *, column: str, kind: Literal["image", "audio", "text", "volume"]) -> None:
        super().__init__()
        self.column, self.kind = column, kind
        self.names: list[str] = []
        self.skipped: list[str] = []
        self._paths: list[Path] = []
        for item in path if isinstance(path, list) else [path]:
            self._list(item)
        if not self._paths:
            skipped = f" among {len(self.skipped)} files" if self.skipped else ""
            raise DataError(f"there is no {kind}{skipped}: {path!r}", hint=f"known suffixes: {' '.join(sorted(SUFFIXES.get(kind, NIFTI)))}")

    def schema(self) -> pa.Schema:
        """Return the one column, text."""
        return pa.schema([pa.field(self.column, pa.string())])

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order (see `Source.read`)."""
        wanted = check_request(self.schema(), columns, batch_rows)
        return deliver(self._batches(min(batch_rows, _TEXT_ROWS)), columns=wanted, where=where, batch_rows=batch_rows)

    def fingerprint(self) -> str:
        """Return the SHA-256 of every file's place and whole content."""
        files = [file for path in self._paths for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if file.is_file()]
        return hash_files([file.absolute() for file in files], Path("/"))

    def _batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(self._paths), rows):
            part = self._paths[start : start + rows]
            values = [_text(path) for path in part] if self.kind == "text" else [str(path.absolute()) for path in part]
            yield pa.record_batch([pa.array(values, pa.string())], schema=self.schema())

    def _list(self, item: str | PathLike[str]) -> None:
        path = local_path(fspath(item)).expanduser()
        if is_remote(fspath(item)):
            found = [(file.name, file) for file in fetch([fspath(item)])]
        elif path.is_dir():
            names = with_series(walk(path)) if self.kind == "volume" else walk(path)
            found = [(str(path) if name == "." else name, path / name) for name in names]
        elif path.exists() or not glob.has_magic(str(path)):
            found = [(str(path), path)]
        else:
            found = [(name, Path(name)) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
        for name, file in found:
            if not file.exists():
                raise DataError(f"there is no file {str(file)!r}")
            volume = self.kind == "volume" and (file.is_dir() or is_volume(file.name))
            if volume or (self.kind != "volume" and file.suffix.lower() in SUFFIXES[self.kind]):
                self.names.append(name)
                self._paths.append(file)
            else:
                self.skipped.append(name)


def _text(path: Path) -> str:
    return b"".join(utf8_blocks(path)).decode()
