"""Forms with files (multipart/form-data, RFC 7578), read whole from a body of limited size."""

from __future__ import annotations

import re

from deepseek.serving.problems import RefusedError

_MOST_PARTS = 2000
_BOUNDARY = re.compile(rb';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb';\s*name="((?:[^"\\\r\n]|\\.)*)"', re.IGNORECASE)


def read_form(body: bytes, content_type: bytes) -> dict[str, bytes]:
    """Return the parts of a form by name; of parts with the same name the last.

    Args:
        body: The whole body.
        content_type: The header, which names the boundary.

    Raises:
        RefusedError: It is no form (400).
    """
    found = _BOUNDARY.search(content_type)
    if not found:
        raise RefusedError(400, "the form's Content-Type names no boundary")
    mark = b"--" + (found[1] or found[2])
    if not body.startswith(mark):
        raise RefusedError(400, "the form does not begin with its boundary")
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)[1:]
    if len(pieces) > _MOST_PARTS:
        raise RefusedError(413, f"the form has more than {_MOST_PARTS} parts")
    if not pieces or not pieces[-1].startswith(b"--"):
        raise RefusedError(400, "the form does not end with its boundary: it was cut off")
    parts: dict[str, bytes] = {}
    for piece in pieces[:-1]:
        head, separator, content = piece.partition(b"\r\n\r\n")
        name = _NAME.search(_disposition(head))
        if not separator or not name:
            raise RefusedError(400, "a part of the form has no name")
        try:
            parts[re.sub(rb"\\(.)", rb"\1", name[1]).decode()] = content
        except UnicodeDecodeError:
            raise RefusedError(400, "the name of a part of the form is not in UTF-8") from None
    return parts


def _disposition(head: bytes) -> bytes:
    return next((line for line in head.split(b"\r\n") if line.lower().startswith(b"content-disposition:")), b"")
