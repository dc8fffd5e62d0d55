"""One content: a flow file, a part of a form, or a whole body, from its bytes to what the index keeps."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from deepseek.data.sources.files import RAW_CHARACTERS
from deepseek.data.sources.ingested.manifest import attribute_name
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.intake.expected import Expected
from deepseek.serving.intake.kinds import RECORDS, MediaType, charset_of, media_type, suffix_of
from deepseek.serving.intake.records import Reject, land_records
from deepseek.serving.intake.spool import Body
from deepseek.serving.rows.fields import LARGEST_PIXELS

LARGEST_TEXT = 16_000_000
MOST_ATTRIBUTES = 200
MOST_COLUMNS = 5_000
MOST_STORED = 20_000
"""Of these with each of their types, as a part stores a column once for each."""
TOLD_ERRORS = 100
_TEXT = "string"
_ID = re.compile(r"[\x21-\x7e]{1,200}")
_NO_PART_OF_IT = frozenset({"uuid", "mime.type", "record.count"})


@dataclass(frozen=True)
class Given:
    """A content as it came.

    Attributes:
        topic: Where it was posted to.
        body: Its bytes.
        attributes: Its attributes, by name.
        content_type: What the client says it is; may be empty.
        id: What the client calls it; what it holds names it where not given.
    """

    topic: str
    body: Body
    attributes: Mapping[str, str]
    content_type: str
    id: str | None = None


@dataclass
class Content:
    """A content as it is kept.

    Attributes:
        topic: Its topic.
        id: Its name within the topic.
        sha256: The hash of its bytes.
        size: How many these are.
        media: What it is.
        attributes: Its attributes.
        rows: Its rows.
        rejects: Records that are set aside.
        payload: Its rows as Arrow streams, where they are small.
        spooled: The file of the spool that holds them, or the blob, where they are not.
        blob: The path that the blob gets within the topic's folder.
        refusal: Why none of it is a row.
    """

    topic: str
    id: str
    sha256: str
    size: int
    media: str
    attributes: dict[str, str]
    rows: int
    rejects: list[Reject] = field(default_factory=list)
    payload: bytes | None = None
    spooled: str | None = None
    blob: str | None = None
    refusal: RefusedError | None = None


class Lander:
    """Turns what came into what is kept.

    Args:
        most_records: Most records of one content.
        expected: What the records of a topic have to be, by its name.
        columns: The names and types of the columns that a topic has already, by its name.
    """

    def __init__(
        self,
        *,
        most_records: int,
        expected: Callable[[str], Expected] | None = None,
        columns: Callable[[str], Collection[tuple[str, str]]] = lambda _: (),
    ) -> None:
        self._most, self._of, self._columns_of = most_records, expected, columns
        self._expected: dict[str, Expected] = {}
        self._columns: dict[str, set[tuple[str, str]]] = {}
        self._lock = threading.Lock()

    def land(self, given: Given) -> Content:
        """Return a content with its rows; what is not small is in a file that the disk has.

        What cannot be read as what it says it is has no rows, a `refusal`, and itself among the rejects.

        Raises:
            OSError: The disk refuses.
            RefusedError: It is too large (413), or its id is none (400).
        """
        media = media_type(given.content_type, given.attributes)
        attributes = dict(sorted(given.attributes.items()))
        made = Content(given.topic, _id_of(given, media), given.body.sha256, given.body.size, media.name[:200], attributes, 1)
        try:
            self._fill(made, given.body, media)
        except RefusedError as refused:
            if refused.status == 413:
                raise
            made.refusal, made.rows = refused, 0
            made.rejects = [Reject(None, refused.message, _head(given.body) if media.kind in {*RECORDS, "text"} else "")]
        return made

    def _fill(self, made: Content, body: Body, media: MediaType) -> None:
        if media.kind in RECORDS:
            landed = land_records(body, media, most=self._most, expected=self._expected_of(made.topic))
            made.rows, made.rejects = landed.rows, landed.rejects
            try:
                self._see_columns(made, landed.columns)
            except RefusedError:
                landed.body.discard()
                raise
            if not made.rows:
                made.refusal = _all_bad(made.rejects)
                landed.body.discard()
            elif landed.body.data is not None:
                made.payload = landed.body.data
            else:
                made.spooled = landed.body.keep()
            return
        self._see_columns(made, {(media.kind, _TEXT)})
        if media.kind == "text":
            made.payload = _stream({"text": _text(body, media)})
        else:
            if media.kind == "image":
                _check_image(body)
            made.blob = f"blobs/{body.sha256[:2]}/{body.sha256}{suffix_of(media, made.attributes)}"
            made.payload = _stream({media.kind: made.blob})
            made.spooled = body.keep()

    def _see_columns(self, content: Content, columns: set[tuple[str, str]]) -> None:
        """Keep a topic's columns few: names that are made up anew for each content would make a table of nothing but missing values."""
        if len(content.attributes) > MOST_ATTRIBUTES:
            raise RefusedError(422, f"the content has {len(content.attributes):,} attributes; at most {MOST_ATTRIBUTES} are allowed")
        named = _attribute_columns(content.attributes, {name for name, _ in columns})
        with self._lock:
            if content.topic not in self._columns:
                self._columns[content.topic] = set(self._columns_of(content.topic))
            known = self._columns[content.topic]
            new = (columns | {(name, _TEXT) for name in named}) - known
            names = {name for name, _ in known} if new else set()
            others = {name for name, _ in new} - names
            if others and len(names) + len(others) > MOST_COLUMNS:
                what = f"the topic has {len(names):,} columns, and this content {len(others):,} others, as {min(others)!r}"
                raise RefusedError(422, f"{what}; at most {MOST_COLUMNS:,} are allowed", hint="give values names that do not change")
            if new and len(known) + len(new) > MOST_STORED:
                what = f"the topic's columns came with {len(known):,} types in all, and this content has {len(new):,} others, as {min(new)}"
                raise RefusedError(422, f"{what}; at most {MOST_STORED:,} are allowed", hint="give a field one type")
            known |= new

    def _expected_of(self, topic: str) -> Expected | None:
        if self._of is None:
            return None
        if topic not in self._expected:
            self._expected[topic] = self._of(topic)
        return self._expected[topic] if self._expected[topic].asks else None


def _attribute_columns(attributes: Mapping[str, str], taken: Collection[str]) -> set[str]:
    """Return the columns of a content's attributes; several of one name share it where they say the same.

    Args:
        attributes: Its attributes.
        taken: The columns of its records.

    Raises:
        RefusedError: Two that say different things would be one column, or one would be a field's (422).
    """
    found: dict[str, str] = {}
    for name, value in attributes.items():
        column = attribute_name(name)
        if column in taken:
            raise RefusedError(
                422,
                f"the attribute {name!r} and a field of the records are both the column {column!r}",
                hint="give one of them another name",
            )
        other = found.setdefault(column, name)
        if attributes[other] != value:
            what = f"the attributes {other!r} and {name!r} are both the column {column!r}, and say {attributes[other]!r} and {value!r}"
            raise RefusedError(422, what, hint="send one of them, or names that differ in more than capitals, - and _")
    return set(found)


def checked_id(text: str) -> str:
    """Return an id that a client gave.

    Raises:
        RefusedError: It is none (400).
    """
    if not _ID.fullmatch(text):
        raise RefusedError(400, f"the content's id is {text[:80]!r}", hint="give 1 to 200 printable ASCII characters without blanks")
    return text


def rejects_table(rejects: Sequence[Reject]) -> pa.Table:
    """Return rejects as a table of the columns `line`, `reason` and `raw`."""
    columns: dict[str, Any] = {
        "line": pa.array([one.line for one in rejects], pa.int64()),
        "reason": pa.array([one.reason for one in rejects], pa.string()),
        "raw": pa.array([one.raw.encode(errors="replace").decode() for one in rejects], pa.string()),
    }
    return pa.table(columns)


def _id_of(given: Given, media: MediaType) -> str:
    """Return a content's id: the client's, its flow file's, or a hash of all that makes it another content than others.

    Attributes belong to it: the same bytes said of another patient are another content.
    """
    if given.id is not None:
        return given.id
    if uuid := given.attributes.get("uuid"):
        return checked_id(uuid)
    said = {name: value for name, value in sorted(given.attributes.items()) if name not in _NO_PART_OF_IT}
    return hashlib.sha256(json.dumps([given.topic, media.name, said, given.body.sha256]).encode()).hexdigest()


def told(rejects: Sequence[Reject]) -> list[dict[str, Any]]:
    """Return the first rejects as a client is told of them: by line, and by field where the fields are known."""
    return [{"line": one.line, "reason": one.reason, "errors": one.errors} for one in rejects[:TOLD_ERRORS]]


def _all_bad(rejects: Sequence[Reject]) -> RefusedError:
    if not rejects:
        return RefusedError(422, "there is no record in the body")
    where = "" if rejects[0].line is None else f"line {rejects[0].line}: "
    return RefusedError(422, f"no record can be kept: {where}{rejects[0].reason}", errors=told(rejects))


def _head(body: Body) -> str:
    with body.open() as file:
        return file.read(RAW_CHARACTERS).decode(errors="replace")


def _stream(row: Mapping[str, str]) -> bytes:
    sink = io.BytesIO()
    table = pa.table({name: pa.array([value], pa.string()) for name, value in row.items()})
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _text(body: Body, media: MediaType) -> str:
    if body.size > LARGEST_TEXT:
        raise RefusedError(
            413, f"a text of {body.size:,} bytes; at most {LARGEST_TEXT:,} are allowed", hint="send it as a file of its own type"
        )
    charset = charset_of(media)
    try:
        return body.read().decode(charset).removeprefix("\ufeff")
    except (UnicodeDecodeError, LookupError) as error:
        raise RefusedError(
            422, f"the text is not in {charset[:40]}: {error}", hint="say how it is encoded: text/plain; charset=…"
        ) from None


def _check_image(body: Body) -> None:
    """See from an image's head that it is one, and how large it is decoded; nothing is decoded here."""
    try:
        with body.open() as file, Image.open(file) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        raise RefusedError(422, "the body is no image that can be read", hint="send a PNG, JPEG or WebP file as it is") from None
    if width * height > LARGEST_PIXELS:
        raise RefusedError(413, f"the image has {width:,}×{height:,} pixels; at most {LARGEST_PIXELS:,} are allowed")
