"""Files that a graph's file points to: none but the bundle's own may be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from deepseek.artifacts import Bundle
from deepseek.errors import BundleError
from deepseek.inference.reading import AGAIN

_MODEL = {7: "graph", 20: "training", 25: "function"}
_TRAINING = {1: "graph", 2: "graph"}
_GRAPH = {1: "node", 5: "tensor", 15: "sparse"}
_FUNCTION = {7: "node", 11: "attribute"}
_NODE = {5: "attribute"}
_ATTRIBUTE = {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"}
_SPARSE = {1: "tensor", 2: "tensor"}
_TENSOR = {13: "reference"}
_INSIDE = {
    "model": _MODEL,
    "training": _TRAINING,
    "graph": _GRAPH,
    "function": _FUNCTION,
    "node": _NODE,
    "attribute": _ATTRIBUTE,
    "sparse": _SPARSE,
    "tensor": _TENSOR,
}
"""Which numbered fields of ONNX's messages lead to tensors, by message (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto)."""
_LENGTH, _KEY, _VALUE = 2, 1, 2
_DEEPEST = 64
_DECLARATION = re.compile(rb"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)


def require_own_files(bundle: Bundle, path: Path) -> None:
    """Check that the graph in a bundle reads nothing but the bundle's files.

    A tensor of an ONNX file may lie in another file, named by a path, and what a runtime makes of `../../secret` is a matter of its
    version. A file of OpenVINO reads the `.bin` of its own name, which has to be the bundle's, and declares no entities.

    Args:
        bundle: The bundle.
        path: The graph's file in it.

    Raises:
        BundleError: It points elsewhere, or is damaged.
    """
    if path.suffix == ".xml":
        weights = path.with_suffix(".bin").name
        if weights not in bundle.manifest["files"]:
            raise BundleError(f"{path} has no {weights} beside it", hint=AGAIN)
        if _DECLARATION.search(path.read_bytes()):
            raise BundleError(f"{path} declares entities, which no graph does", hint=AGAIN)
        return
    try:
        outside = sorted({name for name in external_files(path.read_bytes()) if name not in bundle.manifest["files"]})
    except ValueError as error:
        raise BundleError(f"{path} is no graph of ONNX: {error}", hint=AGAIN) from None
    if outside:
        raise BundleError(f"{path} reads files that are not the bundle's: {', '.join(outside)}", hint="do not run it; ask who made it")


def external_files(data: bytes) -> list[str]:
    """Return the paths that an ONNX file names for its tensors, with nothing but the file's bytes looked at.

    Args:
        data: The file.

    Raises:
        ValueError: It is no such file.
    """
    return list(_found(memoryview(data), "model", 0))


def _found(data: memoryview, message: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError("its graphs are nested deeper than any network's")
    for number, part in _fields(data):
        inside = _INSIDE[message].get(number)
        if inside == "reference":
            entry = {key: bytes(value) for key, value in _fields(part)}
            if entry.get(_KEY) == b"location":
                yield entry.get(_VALUE, b"").decode("utf-8", "backslashreplace")
        elif inside is not None:
            yield from _found(part, inside, depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the fields with a length, by number; the others are passed over."""
    place = 0
    while place < len(data):
        tag, place = _number(data, place)
        kind = tag & 7
        if kind == _LENGTH:
            size, place = _number(data, place)
            if place + size > len(data):
                raise ValueError("it ends in the middle")
            yield tag >> 3, data[place : place + size]
            place += size
        elif kind == 0:
            _, place = _number(data, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            raise ValueError("it holds a field of no known kind")


def _number(data: memoryview, place: int) -> tuple[int, int]:
    """Return a number of variable length and the place behind it."""
    value = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise ValueError("it ends in the middle")
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
