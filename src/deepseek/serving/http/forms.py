"""Forms with files (multipart/form-data, RFC 7578), found in a body of limited size without copying it."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass

from deepseek.serving.http.problems import RefusedError

_MOST_PARTS = 2000
_LARGEST_HEAD = 16 * 1024
_BOUNDARY = re.compile(rb';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb';\s*name="((?:[^"\\\r\n]|\\.)*)"', re.IGNORECASE)
_FILE_NAME = re.compile(rb';\s*filename="((?:[^"\\\r\n]|\\.)*)"', re.IGNORECASE)


@dataclass(frozen=True)
class FormPart:
    """One part of a form.

    Attributes:
        name: What the form calls it.
        file_name: The name of the file that it is, where it is one.
        content_type: What the client says it is; empty where it does not say.
        start: Where its content begins in the body.
        stop: Where it ends.
    """

    name: str
    file_name: str | None
    content_type: str
    start: int
    stop: int


def read_form(body: bytes, content_type: bytes) -> dict[str, bytes]:
    """Return the parts of a form by name; of parts with the same name the last.

    Args:
        body: The whole body.
        content_type: The header, which names the boundary.

    Raises:
        RefusedError: It is no form (400), or has too many parts (413).
    """
    return {part.name: body[part.start : part.stop] for part in find_parts(body, content_type)}


def find_parts(body: bytes | mmap.mmap, content_type: bytes) -> list[FormPart]:
    """Return where the parts of a form are, in their order.

    Args:
        body: The whole body.
        content_type: The header, which names the boundary.

    Raises:
        RefusedError: It is no form (400), or has too many parts (413).
    """
    found = _BOUNDARY.search(content_type)
    if not found:
        raise RefusedError(400, "the form's Content-Type names no boundary")
    mark = b"--" + (found[1] or found[2])
    if body[: len(mark)] != mark:
        raise RefusedError(400, "the form does not begin with its boundary")
    return [_part(body, start, stop) for start, stop in _pieces(body, mark)]


def _pieces(body: bytes | mmap.mmap, mark: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the pieces between the boundaries begin and end; raises where the last boundary is missing."""
    start = len(mark)
    for _ in range(_MOST_PARTS + 1):
        if body[start : start + 2] == b"--":
            return
        stop = body.find(b"\r\n" + mark, start)
        if stop < 0:
            raise RefusedError(400, "the form does not end with its boundary: it was cut off")
        yield start, stop
        start = stop + 2 + len(mark)
    raise RefusedError(413, f"the form has more than {_MOST_PARTS} parts")


def _part(body: bytes | mmap.mmap, start: int, stop: int) -> FormPart:
    end = body.find(b"\r\n\r\n", start, min(stop, start + _LARGEST_HEAD))
    head = body[start:end] if end >= 0 else b""
    disposition = _header(head, b"content-disposition:")
    name, file_name = _NAME.search(disposition), _FILE_NAME.search(disposition)
    if not name:
        raise RefusedError(400, "a part of the form has no name")
    kind = _header(head, b"content-type:").partition(b":")[2].strip()
    return FormPart(_text(name[1]), _text(file_name[1]) if file_name else None, kind.decode("latin-1"), end + 4, stop)


def _text(raw: bytes) -> str:
    try:
        return re.sub(rb"\\(.)", rb"\1", raw).decode()
    except UnicodeDecodeError:
        raise RefusedError(400, "the name of a part of the form is not in UTF-8") from None


def _header(head: bytes, name: bytes) -> bytes:
    return next((line for line in head.split(b"\r\n") if line.lower().startswith(name)), b"")
