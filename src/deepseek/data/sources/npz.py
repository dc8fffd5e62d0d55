"""NumPy archives: arrays of equal length become columns, `x_train` and `x_test` one column and a split."""

from __future__ import annotations

import math
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, SPLITS
from deepseek.data.sources.files import FileSource, PathLike, check_same_columns, reading
from deepseek.data.sources.memory import tensor_column
from deepseek.errors import DataError

SPLIT_COLUMN = "split"
_WORDS = "|".join(sorted(SPLITS, key=len, reverse=True))
_SUFFIXED = re.compile(rf"(?P<name>.+)_(?P<split>{_WORDS})", re.IGNORECASE)
_PREFIXED = re.compile(rf"(?P<split>{_WORDS})_(?P<name>.+)", re.IGNORECASE)
_BATCH_BYTES = 1 << 25
# What the libraries raise on a damaged archive: a length asks for any memory, and a header, which NumPy reads as Python, holds anything.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    MemoryError,
    OverflowError,
    RuntimeError,
)


@dataclass(frozen=True)
class _Member:
    """One array of an archive: the column it belongs to, and the split it is of, or nothing."""

    key: str
    column: str
    split: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


class NpzSource(FileSource):
    """Read NumPy `.npz` archives.

    Arrays called `NAME_train` or `train_NAME` (also `validation`, `val`, `test` …) are put one after the other as the column `NAME`, and
    the column `split` says which is which. Arrays of several dimensions become tensor columns. While it is read, one split's arrays are
    held in memory, since a packed array cannot be read from its middle. Pickled objects are refused.

    Args:
        folder: What relative paths are relative to.
        path: A path, a pattern with `*`, a URL, or a list of them. All files must hold the same arrays.
        arrays: Which arrays to read, where the archive also holds others; all where not given.

    Raises:
        DataError: The archive is damaged, holds objects, or arrays of unequal length.
    """

    def __init__(self, folder: Path = Path(), /, *, path: PathLike, arrays: list[str] | None = None) -> None:
        super().__init__(folder, path=path)
        self.arrays = arrays

    def schema(self) -> pa.Schema:
        """Return a column for each array, and the split where the names of the arrays say it."""
        files = self.files()
        schemas = [_schema_of(self._members(file), file) for file in files]
        for file, schema in zip(files[1:], schemas[1:], strict=True):
            check_same_columns(file, schema.names, first=files[0], expected=schemas[0].names)
            if schema != schemas[0]:
                raise DataError(f"the arrays of {str(file)!r} have other shapes or types than those of {str(files[0])!r}")
        return schemas[0]

    def given_split(self) -> str | None:
        """Return `split` where the names of the arrays say it."""
        return SPLIT_COLUMN if any(member.split for file in self.files() for member in self._members(file)) else None

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        schema = self.schema()
        names = schema.names if columns is None else columns
        target = pa.schema([schema.field(name) for name in names])
        for file in self.files():
            members = self._members(file)
            with reading(file), _opened(file) as archive:
                for split in dict.fromkeys(member.split for member in members):
                    part = [member for member in members if member.split == split]
                    yield from _rows(archive, part, split, target)

    def _members(self, file: Path) -> list[_Member]:
        with reading(file), _opened(file) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
            wanted = keys if self.arrays is None else self.arrays
            for key in wanted:
                if key not in keys:
                    raise DataError(f"{str(file)!r} holds no array {key!r}", hint=f"it holds: {', '.join(keys) or 'none'}")
            members = [_describe(archive, key, file) for key in wanted]
        if not members:
            raise DataError(f"{str(file)!r} holds no arrays")
        if any(member.split is None for member in members):  # a name that only looks like a split's
            members = [_Member(member.key, member.key, None, member.shape, member.dtype) for member in members]
        _check(members, file)
        order = ["train", "validation", "test", None]
        return sorted(members, key=lambda member: order.index(member.split))


def _opened(file: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except _DAMAGE as error:
        raise DataError(f"{str(file)!r} is no NumPy archive: {error}", hint="write one with numpy.savez") from error


def _describe(archive: zipfile.ZipFile, key: str, file: Path) -> _Member:
    """Read an array's header only."""
    try:
        with archive.open(f"{key}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(stream)
            needed = stream.tell() + math.prod(shape) * dtype.itemsize
            held = archive.getinfo(f"{key}.npy").file_size
    except _DAMAGE as error:
        raise DataError(f"{str(file)!r}: the array {key!r} cannot be read: {error}", hint="write it with numpy.savez") from error
    if dtype.hasobject:
        raise DataError(
            f"{str(file)!r}: the array {key!r} holds Python objects",
            hint="they would have to be unpickled, which runs code; save plain arrays",
        )
    if held != needed:
        raise DataError(f"{str(file)!r}: the array {key!r} holds {held:,} bytes where its shape needs {needed:,}", hint="it is damaged")
    if not shape:
        raise DataError(f"{str(file)!r}: the array {key!r} is a single value, not a column", hint="name the arrays to read under arrays")
    match = _SUFFIXED.fullmatch(key) or _PREFIXED.fullmatch(key)
    split = SPLITS[match["split"].lower()] if match else None
    return _Member(key, match["name"] if match else key, split, tuple(shape), dtype)


def _check(members: list[_Member], file: Path) -> None:
    columns = list(dict.fromkeys(member.column for member in members))
    for split in dict.fromkeys(member.split for member in members):
        part = [member for member in members if member.split == split]
        lengths = {member.key: member.shape[0] for member in part}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{str(file)!r} has arrays of unequal length: {lengths}", hint="name those that belong together under arrays")
        if sorted(member.column for member in part) != sorted(columns):
            raise DataError(
                f"{str(file)!r}: the split {split!r} has the arrays {list(lengths)}", hint=f"each split needs: {', '.join(columns)}"
            )
    for column in columns:
        kinds = {(member.shape[1:], member.dtype) for member in members if member.column == column}
        if len(kinds) > 1:
            raise DataError(
                f"{str(file)!r}: the arrays of {column!r} differ in shape or type between the splits: {sorted(map(str, kinds))}"
            )
    if SPLIT_COLUMN in columns and any(member.split for member in members):
        raise DataError(f"{str(file)!r} has an array named 'split' beside arrays named after splits", hint="rename it")


def _schema_of(members: list[_Member], file: Path) -> pa.Schema:
    fields = {member.column: tensor_type(member.shape, member.dtype, f"{file}: {member.key}") for member in members}
    if members[0].split:
        fields[SPLIT_COLUMN] = pa.string()
    return pa.schema(list(fields.items()))


def tensor_type(shape: tuple[int, ...], dtype: np.dtype[np.generic], what: str) -> pa.DataType:
    """Return the type of a column whose rows are arrays of `shape[1:]`."""
    try:
        return tensor_column(np.zeros((1, *shape[1:]), dtype)).type
    except DataError as error:
        raise DataError(f"{what}: {error.message}") from error


def _rows(archive: zipfile.ZipFile, part: list[_Member], split: str | None, target: pa.Schema) -> Iterator[pa.RecordBatch]:
    needed = [member for member in part if member.column in target.names]
    arrays = {member.column: _load(archive, member) for member in needed}
    rows = part[0].shape[0]
    row_bytes = sum(array.nbytes for array in arrays.values()) // max(rows, 1)
    step = max(1, min(DEFAULT_BATCH_ROWS, _BATCH_BYTES // max(row_bytes, 1)))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        columns = [
            pa.array([split] * (stop - start), pa.string()) if name not in arrays else tensor_column(arrays[name][start:stop])
            for name in target.names
        ]
        yield pa.record_batch(columns, schema=target)


def _load(archive: zipfile.ZipFile, member: _Member) -> np.ndarray:
    try:
        with archive.open(f"{member.key}.npy") as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
            stream.read(1)  # only at its end is a member's checksum compared
    except _DAMAGE as error:
        raise DataError(f"{archive.filename!r}: the array {member.key!r} cannot be read: {error}") from error
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
