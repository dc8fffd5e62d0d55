"""Text files as a stream of checked UTF-8: decompressed, decoded, without byte-order mark and without NUL."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import pyarrow as pa

from deepseek.data.sources.files import looks_like, reading
from deepseek.errors import DataError, InputError

BLOCK_BYTES = 1 << 20


def check_encoding(encoding: str) -> str:
    """Return the codec's own name.

    Raises:
        InputError: Python has no text codec of this name.
    """
    try:
        "".encode(encoding)
        return codecs.lookup(encoding).name
    except LookupError:
        raise InputError(f"unknown encoding {encoding!r}", hint="for example utf-8, latin-1, cp1252, utf-16") from None


def utf8_blocks(file: Path, *, encoding: str = "utf-8", member: str | None = None) -> Iterator[bytes]:
    """Yield a file's text as UTF-8 in blocks of about a mebibyte; `.gz`, `.zip`, `.bz2`, `.xz` and `.zst` are decompressed on the way.

    Args:
        file: The file.
        encoding: How its text is encoded.
        member: Which file of a `.zip` to read, where it holds several.

    Raises:
        DataError: It is binary, compressed under a wrong name, truncated, holds NUL bytes, or is not in this encoding.
    """
    name = codecs.lookup(encoding).name
    decoder = codecs.getincrementaldecoder("utf-8-sig" if name == "utf-8" else name)()
    offset = 0
    with _open(file, member) as stream:
        while True:
            block = _next(stream, file)
            if offset == 0:
                _check_head(block, file, encoding)
            try:
                pending = len(decoder.getstate()[0])
                plain = name == "utf-8" and offset > 0 and not pending and block.isascii()
                text = block if plain else decoder.decode(block, final=not block).encode()
            except UnicodeError as error:
                start = offset - pending + getattr(error, "start", 0)
                raise _wrong_encoding(file, encoding, start, block, start - offset) from error
            if b"\0" in text:
                raise DataError(
                    f"{str(file)!r} holds a NUL byte near offset {offset + max(block.find(0), 0)}",
                    hint="it is damaged, or binary, or in another encoding (encoding: utf-16)",
                )
            offset += len(block)
            if text:
                yield text
            if not block:
                return


class BlockStream(io.RawIOBase):
    """A readable stream over blocks of bytes, for Arrow.

    Args:
        blocks: The blocks, in order.
        skip: How many bytes to leave out at the beginning.
    """

    def __init__(self, blocks: Iterator[bytes], *, skip: int = 0) -> None:
        self._blocks, self._rest = blocks, memoryview(b"")
        while skip:
            skip -= len(self.read(skip)) or skip

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes; none at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        if size < 0:
            whole = bytes(self._rest) + b"".join(self._blocks)
            self._rest = memoryview(b"")
            return whole
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)


def _next(stream: IO[bytes], file: Path) -> bytes:
    try:
        return stream.read(BLOCK_BYTES)
    except (zlib.error, zipfile.BadZipFile, lzma.LZMAError, RuntimeError) as error:
        raise DataError(f"{str(file)!r} is damaged: {error}", hint="fetch or pack it again") from error


@contextmanager
def _open(file: Path, member: str | None) -> Iterator[IO[bytes]]:
    with reading(file):
        if file.suffix.lower() == ".zip":
            try:
                with zipfile.ZipFile(file) as archive, archive.open(_member(archive, file, member)) as stream:
                    yield stream
            except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, RuntimeError) as error:  # RuntimeError: encrypted, or unknown
                raise DataError(f"{str(file)!r} cannot be unpacked: {error}") from error
        else:
            with _unpacked(file) as packed:
                yield packed


def _unpacked(file: Path) -> IO[bytes]:
    match file.suffix.lower():
        case ".gz":
            return cast("IO[bytes]", gzip.open(file, "rb"))
        case ".bz2":
            return cast("IO[bytes]", bz2.open(file, "rb"))
        case ".xz":
            return cast("IO[bytes]", lzma.open(file, "rb"))
        case ".zst":
            return cast("IO[bytes]", pa.input_stream(str(file), compression="zstd"))
    return cast("IO[bytes]", file.open("rb", buffering=0))


def _member(archive: zipfile.ZipFile, file: Path, member: str | None) -> str:
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
    if member in names:
        return str(member)
    if member is None and len(names) == 1:
        return names[0]
    what = f"holds no {member!r}" if member else f"holds {len(names)} files"
    raise DataError(f"{str(file)!r} {what}", hint=f"set member to one of: {', '.join(names) or 'none'}")


def _check_head(block: bytes, file: Path, encoding: str) -> None:
    found = looks_like(block)
    if found:
        raise DataError(f"{str(file)!r} is no text: it looks like {found}", hint="give it the suffix of its format, or another source type")
    marked = next(
        (name for mark, name in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")) if block.startswith(mark)), None
    )
    if marked and codecs.lookup(encoding).name == "utf-8":
        raise DataError(f"{str(file)!r} is not {encoding}: it starts with the mark of {marked}", hint=f"write encoding: {marked}")


def _wrong_encoding(file: Path, encoding: str, offset: int, block: bytes, at: int) -> DataError:
    byte = f"byte 0x{block[at]:02X}" if 0 <= at < len(block) else "the text"
    return DataError(
        f"{str(file)!r} is not {encoding}: {byte} at offset {offset} cannot be decoded",
        hint="set encoding to what it is: latin-1, cp1252, utf-16 …",
    )
