"""What every source that reads files shares: finding them, hashing them, and cutting what they hold into batches."""

from __future__ import annotations

import glob
import hashlib
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, Source
from deepseek.data.sources.remote.cache import fetch
from deepseek.data.sources.remote.urls import is_remote, local_path
from deepseek.errors import DataError, InputError, UnknownNameError, closest

if TYPE_CHECKING:
    import pyarrow.compute as pc

PathLike = str | Path | list[str | Path]
"""How a recipe names files: a path, a pattern with `*`, `?`, `[…]` or `**`, a URL, or a list of them."""

WHERE_PATHS_START = "relative paths start at the recipe's folder, on the command line at the working directory"
"""What to look at where there is no such file."""
RAW_CHARACTERS = 2_000
"""So much is kept of the text of what could not be read."""
_MAGIC = {
    b"\x1f\x8b": "a gzip file",
    b"PK\x03\x04": "a zip file (also .xlsx and .npz)",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\xfd7zXZ": "an xz file",
    b"BZh": "a bzip2 file",
    b"SQLite format 3": "an SQLite database",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word document",
    b"\x93NUMPY": "a NumPy array",
}


class FileSource(Source):
    """A source that reads one or several files of one format, in the order of their names.

    Files of web servers and object stores are fetched into a cache when they are first needed; the source then stays with these contents,
    whatever becomes of them at their place.

    Args:
        folder: What relative paths are relative to.
        path: A path, a pattern with `*`, a URL, or a list of them. All files must have the same columns.
    """

    def __init__(self, folder: Path = Path(), /, *, path: PathLike) -> None:
        super().__init__(folder)
        self.path = path
        self._hashed: tuple[object, dict[Path, str]] | None = None
        self._fetched: dict[tuple[str, ...], list[Path]] = {}

    @property
    def root(self) -> Path:
        """The folder of the files; of several, the one that they have in common."""
        return Path(os.path.commonpath([os.path.normpath(file.parent.absolute()) for file in self.files()]))

    def files(self) -> list[Path]:
        """Return the files, sorted.

        Raises:
            DataError: There is none, or one of them is a folder.
        """
        return find_files(self.path, self.folder, fetched=self._fetched)

    def stamp(self) -> tuple[tuple[str, int, int], ...]:
        """Return each file's path, size and time of change: what a cached schema is valid for."""
        return tuple((str(file), status.st_size, status.st_mtime_ns) for file, status in ((file, file.stat()) for file in self.files()))

    def fingerprint(self) -> str:
        """Return the SHA-256 of every file's name (below their common folder) and whole content."""
        digests = self.digests()
        return hash_files(list(digests), digests=digests)

    def digests(self) -> dict[Path, str]:
        """Return each file's SHA-256, read once for as long as the files do not change."""
        stamp = self.stamp()
        if self._hashed is None or self._hashed[0] != stamp:
            self._hashed = (stamp, {Path(name): _digest(Path(name)) for name, _, _ in stamp})
        return self._hashed[1]

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order (see `Source.read`)."""
        wanted = check_request(self.schema(), columns, batch_rows)
        batches = self._batches(None if where is not None else wanted)
        return deliver(batches, columns=wanted, where=where, batch_rows=batch_rows)

    @abstractmethod
    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        """Yield everything, with at least these columns (all, where not given)."""


def find_files(path: PathLike, folder: Path, *, fetched: dict[tuple[str, ...], list[Path]] | None = None) -> list[Path]:
    """Return the files that a path, a pattern, a URL or a list of them names, sorted, each once; those of URLs come last.

    Args:
        path: What names them.
        folder: What relative paths are relative to.
        fetched: What was fetched for these URLs before; what is fetched now is added.

    Raises:
        DataError: Nothing is there, or a folder is.
    """
    given = path if isinstance(path, list) else [path]
    if not given:
        raise DataError("the list of paths is empty", hint="name at least one file")
    urls = tuple(item for item in given if isinstance(item, str) and is_remote(item))
    known = {} if fetched is None else fetched
    if urls and urls not in known:
        known[urls] = fetch(urls)
    return sorted(_local([item for item in given if item not in urls], folder)) + (known[urls] if urls else [])


def _local(given: list[str | Path], folder: Path) -> set[Path]:
    found: set[Path] = set()
    for item in given:
        full = folder / local_path(item).expanduser()
        if full.exists() or not glob.has_magic(str(item)):
            found.add(_existing(full))
            continue
        matches = {Path(name) for name in glob.glob(str(full), recursive=True)}  # noqa: PTH207 - Path.glob refuses absolute patterns
        files = {match for match in matches if match.is_file()}
        if not files:
            raise DataError(f"no file matches {str(full)!r}", hint="check the pattern; it is relative to the folder of the recipe")
        found |= files
    return found


def _existing(file: Path) -> Path:
    if file.is_dir():
        raise DataError(
            f"{str(file)!r} is a folder, not a file", hint="name a file, or a pattern such as folder/*.csv; or use type: folder"
        )
    if not file.exists():
        names = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        guess = closest(file.name, names)
        hint = f"did you mean {str(file.parent / guess)!r}?" if guess else WHERE_PATHS_START
        raise DataError(f"there is no file {str(file)!r}", hint=hint)
    return file


def hash_files(files: Sequence[Path], root: Path | None = None, *, digests: Mapping[Path, str] | None = None) -> str:
    """Return the SHA-256 of the files' names below a folder (their common one, where not given), sizes and contents.

    Args:
        files: The files.
        root: The folder.
        digests: Their own hashes, where these are known already.
    """
    base = root or Path(os.path.commonpath([file.parent for file in files]))
    total = hashlib.sha256()
    for file in files:
        digest = bytes.fromhex(_digest(file) if digests is None else digests[file])
        total.update(f"{file.relative_to(base).as_posix()}\0{file.stat().st_size}\0".encode() + digest)
    return total.hexdigest()


def _digest(file: Path) -> str:
    with reading(file), file.open("rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_request(schema: pa.Schema, columns: Sequence[str] | None, batch_rows: int) -> list[str] | None:
    """Return the wanted columns as a list, after checking that all are there.

    Raises:
        UnknownNameError: A column does not exist.
        InputError: `batch_rows` is not positive.
    """
    if batch_rows < 1:
        raise InputError(f"batch_rows is {batch_rows}", hint="it must be at least 1")
    for name in columns or ():
        if name not in schema.names:
            raise UnknownNameError("column", name, schema.names)
    return None if columns is None else list(columns)


def deliver(
    batches: Iterator[pa.RecordBatch], *, columns: list[str] | None, where: pc.Expression | None, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Filter, project and cut batches; empty ones are left out."""
    for batch in batches:
        table = pa.Table.from_batches([batch])
        if where is not None:
            table = filtered(table, where)
        if columns is not None:
            table = table.select(columns)
        yield from (piece for piece in table.to_batches(max_chunksize=batch_rows) if piece.num_rows)


def filtered(table: pa.Table, where: pc.Expression) -> pa.Table:
    """Return the rows for which an expression is true.

    Raises:
        DataError: The expression does not fit the table.
    """
    try:
        return table.filter(where)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError, TypeError) as error:
        hint = f"columns: {', '.join(table.column_names)}"
        if any(map(pa.types.is_decimal, table.schema.types)):  # Arrow compares none with a whole number
            hint += "; a decimal is compared with a number that has a point: price > 5.0"
        raise DataError(f"the filter {where} does not fit the table: {error}", hint=hint) from error


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the one type that the house uses for what Arrow can hold in several ways: dictionaries, large and view strings."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_float16(kind):
        return pa.float32()  # Arrow counts and compares no values of 16 bits
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(plain_type(kind.value_type))
    return pa.binary() if is_file_struct(kind) else kind


def is_file_struct(kind: pa.DataType) -> bool:
    """Whether a type is how `datasets`, and Parquet files made with it, hold a file: its bytes, or the path that they are at."""
    return bool(pa.types.is_struct(kind)) and {field.name for field in kind} == {"bytes", "path"}


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema with every column's `plain_type` and without the table's metadata (pandas, polars)."""
    return pa.schema([pa.field(field.name, plain_type(field.type)) for field in schema])


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with its columns cast to the plain types of a schema of the same names.

    Raises:
        DataError: A column is of a type that cannot be cast.
    """
    arrays = []
    for column, field in zip(batch.columns, schema, strict=True):
        try:
            arrays.append(column if column.type == field.type else _plain_column(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise DataError(
                f"the column {field.name!r} is of type {column.type}, which no kind of column can hold", hint="cast it"
            ) from None
    return pa.record_batch(arrays, schema=schema)


def _plain_column(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(column.type):  # Arrow spreads no dictionary of string views
        return column.dictionary.cast(kind).take(column.indices)
    if is_file_struct(column.type):
        return pa.array([None if file is None else _content(file) for file in column.to_pylist()], kind)
    return column.cast(kind)


def _content(file: Mapping[str, Any]) -> bytes | None:
    if file["bytes"] is not None or file["path"] is None:
        return cast("bytes | None", file["bytes"])
    with reading(Path(file["path"])):
        return Path(file["path"]).read_bytes()


def check_same_columns(file: Path, names: Sequence[str], *, first: Path, expected: Sequence[str]) -> None:
    """Raise where a file's columns are not those of the first file.

    Raises:
        DataError: With what is missing, what is too much, or that the order differs.
    """
    if list(names) == list(expected):
        return
    missing, more = [n for n in expected if n not in names], [n for n in names if n not in expected]
    parts = [f"lacks {', '.join(missing)}" if missing else "", f"also has {', '.join(more)}" if more else ""]
    what = " and ".join(part for part in parts if part) or "has them in another order"
    raise DataError(
        f"the columns of {str(file)!r} are not those of {str(first)!r}: it {what}", hint="all files of a source share their columns"
    )


def unique_names(names: Sequence[str], file: Path | str) -> tuple[str, ...]:
    """Return the names, after checking that none stands twice.

    Raises:
        DataError: One does.
    """
    doubled = sorted({name for name in names if list(names).count(name) > 1}) if len(set(names)) < len(names) else []
    if doubled:
        raise DataError(f"{str(file)!r} has more than one column named {', '.join(map(repr, doubled))}", hint="rename one of them")
    return tuple(names)


def reject_batch(line: Sequence[int | None], reason: Sequence[str], raw: Sequence[str]) -> pa.RecordBatch:
    """Return a batch of what could not be read, as `Source.rejects` yields it."""
    return pa.record_batch({"line": pa.array(line, pa.int64()), "reason": pa.array(reason, pa.string()), "raw": pa.array(raw, pa.string())})


def looks_like(head: bytes) -> str | None:
    """Say which binary format a file's first bytes are those of, or nothing."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


@contextmanager
def reading(file: Path | str) -> Iterator[None]:
    """Turn what Arrow, NumPy and the operating system raise about a file into a `DataError` that names it."""
    try:
        yield
    except DataError:
        raise
    except (
        OSError,
        EOFError,
        MemoryError,
        OverflowError,
        UnicodeError,
        pa.ArrowException,
    ) as error:  # a damaged length asks for any memory
        raise DataError(f"{str(file)!r} cannot be read: {str(error) or type(error).__name__}") from error
