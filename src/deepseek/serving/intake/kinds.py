"""What a content is, told by its media type, the attribute `mime.type`, or the suffix of its name."""

from __future__ import annotations

import codecs
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from deepseek.serving.http.problems import RefusedError

Kind = Literal["json", "jsonl", "csv", "arrow", "text", "image", "audio", "file"]
RECORDS = frozenset({"json", "jsonl", "csv", "arrow"})
_TYPES: dict[str, Kind] = {
    "application/json": "json",
    "text/json": "json",
    "application/x-ndjson": "jsonl",
    "application/ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/json-lines": "jsonl",
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/vnd.apache.arrow.stream": "arrow",
    "text/plain": "text",
}
_MAIN_TYPES: dict[str, Kind] = {"text": "text", "image": "image", "audio": "audio"}
_SUFFIXES = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".ndjson": "application/x-ndjson",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".arrows": "application/vnd.apache.arrow.stream",
    ".txt": "text/plain",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
}
_NO_CHARSETS = frozenset({"idna", "mbcs", "oem", "punycode", "undefined"})
"""What Python can read besides and no text is written in: of names of hosts, which takes time by the square, and of one machine."""
_NOTHING_SAID = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded"})


@dataclass(frozen=True)
class MediaType:
    """A media type.

    Attributes:
        name: Without parameters, in small letters.
        parameters: Such as `charset`, by name in small letters.
    """

    name: str
    parameters: dict[str, str]

    @property
    def kind(self) -> Kind:
        """What contents of this type become; files, where the type is none that is known."""
        main = self.name.partition("/")[0]
        return _TYPES.get(self.name) or ("json" if self.name.endswith("+json") else _MAIN_TYPES.get(main, "file"))


def media_type(header: str, attributes: Mapping[str, str]) -> MediaType:
    """Return what a content is.

    Args:
        header: Its Content-Type; where it says no more than that it is bytes, the attributes are asked.
        attributes: Its attributes; of them `mime.type` and the suffix of `filename`.
    """
    for given in (header, attributes.get("mime.type", "")):
        name, *rest = (word.strip() for word in given.split(";"))
        if name.lower() not in _NOTHING_SAID:
            pairs = (word.partition("=") for word in rest)
            return MediaType(name.lower(), {key.strip().lower(): value.strip().strip('"') for key, _, value in pairs})
    suffix = PurePath(attributes.get("filename", "")).suffix.lower()
    return MediaType(_SUFFIXES.get(suffix, "application/octet-stream"), {})


def charset_of(media: MediaType) -> str:
    """Return how a text of this type is encoded.

    Args:
        media: The type; UTF-8 where it does not say.

    Raises:
        RefusedError: Nothing is known by that name (422).
    """
    given = media.parameters.get("charset", "utf-8")
    try:
        known = codecs.lookup(given).name
    except (LookupError, ValueError):
        known = "undefined"
    if known in _NO_CHARSETS:
        raise RefusedError(422, f"{given[:40]!r} is no encoding of text", hint="say how it is encoded: text/plain; charset=…")
    return given


def suffix_of(media: MediaType, attributes: Mapping[str, str]) -> str:
    """Return the suffix of a file of this type: that of its own name where it has one, of letters and digits."""
    suffix = PurePath(attributes.get("filename", "")).suffix.lower()
    if 1 < len(suffix) <= 9 and suffix[1:].isascii() and suffix[1:].isalnum():
        return suffix
    known = next((one for one, name in _SUFFIXES.items() if name == media.name), None)
    return known or mimetypes.guess_extension(media.name) or ".bin"
