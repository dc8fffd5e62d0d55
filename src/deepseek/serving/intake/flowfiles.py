"""Flow files in Apache NiFi's own packaging, version 3 (`application/flowfile-v3`), one after the other: read where they lie, and written.

Each is the word `NiFiFF3`, the number of attributes, for each attribute the lengths and texts of name and value, the content's length in 8
bytes, and the content. Numbers are big-endian; a length is 2 bytes, and where these are all ones, the 4 bytes behind them. PackageFlowFile,
MergeContent and PostHTTP write this form, ListenHTTP and UnpackContent read it
(https://nifi.apache.org/components/org.apache.nifi.processors.standard.PackageFlowFile/).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from deepseek.serving.http.problems import RefusedError

MAGIC = b"NiFiFF3"
MEDIA_TYPE = "application/flowfile-v3"
_LONG = 0xFFFF
_MOST_ATTRIBUTES = 1_000
_LONGEST_ATTRIBUTES = 1 << 20
_MOST_FILES = 10_000


@dataclass(frozen=True)
class FlowFile:
    """One flow file within a body.

    Attributes:
        attributes: By name.
        start: Where its content begins.
        stop: Where it ends.
    """

    attributes: dict[str, str]
    start: int
    stop: int


def find_flow_files(file: BinaryIO, size: int) -> list[FlowFile]:
    """Return the flow files of a body without reading their contents.

    Args:
        file: The body, at its beginning.
        size: Its length.

    Raises:
        RefusedError: It is no sequence of whole flow files (400), or has too many (413).
    """
    found: list[FlowFile] = []
    while (at := file.tell()) < size or not found:
        if len(found) == _MOST_FILES:
            raise RefusedError(413, f"the body holds more than {_MOST_FILES:,} flow files", hint="send them in several requests")
        try:
            one = _read(file)
        except (EOFError, struct.error):
            raise RefusedError(400, f"the flow file {len(found)}, at byte {at:,}, breaks off") from None
        except (UnicodeDecodeError, ValueError) as error:
            raise RefusedError(400, f"the flow file {len(found)}, at byte {at:,}, is none of version 3: {error}") from None
        if one.stop > size:
            raise RefusedError(400, f"the flow file {len(found)} breaks off: {one.stop - size:,} bytes of its content are missing")
        file.seek(one.stop)
        found.append(one)
    return found


def package(contents: Iterable[tuple[Mapping[str, str], bytes]]) -> bytes:
    """Return flow files as one body.

    Args:
        contents: Each with its attributes and its content.
    """
    pieces = []
    for attributes, content in contents:
        pieces += [MAGIC, _length(len(attributes))]
        for text in (word for pair in attributes.items() for word in pair):
            pieces += [_length(len(text.encode())), text.encode()]
        pieces += [struct.pack(">q", len(content)), content]
    return b"".join(pieces)


def _read(file: BinaryIO) -> FlowFile:
    if _take(file, len(MAGIC)) != MAGIC:
        raise ValueError("it does not begin with NiFiFF3")
    count = _number(file)
    if count > _MOST_ATTRIBUTES:
        raise ValueError(f"it has {count:,} attributes; at most {_MOST_ATTRIBUTES:,} are allowed")
    attributes: dict[str, str] = {}
    left = _LONGEST_ATTRIBUTES
    for _ in range(count):
        texts = []
        for _ in range(2):
            length = _number(file)
            left -= length
            if left < 0:
                raise ValueError(f"its attributes are longer than {_LONGEST_ATTRIBUTES:,} bytes")
            texts.append(_take(file, length).decode())
        attributes[texts[0]] = texts[1]
    (length,) = struct.unpack(">q", _take(file, 8))
    if length < 0:
        raise ValueError(f"it says that it has {length} bytes")
    start = file.tell()
    return FlowFile(attributes, start, start + length)


def _number(file: BinaryIO) -> int:
    (short,) = struct.unpack(">H", _take(file, 2))
    return int(short) if short != _LONG else int(struct.unpack(">I", _take(file, 4))[0])


def _length(length: int) -> bytes:
    return struct.pack(">H", length) if length < _LONG else struct.pack(">HI", _LONG, length)


def _take(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data
