"""The journal's records as bytes: each has a checksum, and a mark that no client can know, by which the next one is found after damage."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

SUFFIX = ".journal"
MAGIC = b"deepseek journal 1\n"
MARK_BYTES = 8
FILE_HEAD_BYTES = len(MAGIC) + MARK_BYTES
SCHEMAS, ANSWERED, OUTCOMES, END, UNANSWERED = 1, 2, 3, 4, 5
_HEAD = struct.Struct(f"<{MARK_BYTES}sQIB")
_LENGTHS = struct.Struct("<II")
HEAD_BYTES = _HEAD.size
_ALIGNED = 8
"""Arrow's buffers begin at multiples of so many bytes."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Rows of one request that were answered.

    Attributes:
        model: The model's name.
        version: Its version.
        arm: The arm of an experiment that answered, where there is one.
        at: When, in seconds since 1970.
        ids: The rows' ids, by which outcomes are joined.
        keys: Whom the rows are about, where an experiment divides by that.
        rows: The rows as the model was given them.
        answers: Their answers, in the same order.
        seconds: How long the request took.
        shadow: Whether no client was given these answers.
    """

    model: str
    version: str
    arm: str | None
    at: float
    ids: Sequence[str]
    keys: Sequence[str] | None
    rows: pa.RecordBatch
    answers: pa.Table
    seconds: float
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Rows of one request that a shadow was to answer and did not.

    Attributes:
        model: The model's name.
        version: The shadow's version.
        arm: The shadow.
        at: When, in seconds since 1970.
        ids: The rows' ids.
        keys: Whom the rows are about, as of `Answered`.
        reason: Why: `failed`, `late`, `resting`, `unreadable`, `busy` or `closed`.
    """

    model: str
    version: str
    arm: str
    at: float
    ids: Sequence[str]
    keys: Sequence[str]
    reason: str


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of rows, by their ids.

    Attributes:
        model: The model's name.
        at: When it was told, in seconds since 1970.
        ids: The rows' ids.
        labels: The truth of each row, `None` where it was not told; nothing where no row has one.
        rewards: What each answer was worth, likewise.
    """

    model: str
    at: float
    ids: Sequence[str]
    labels: Sequence[Any] | None
    rewards: Sequence[float | None] | None


Entry = Answered | Unanswered | Outcomes
Schemas = tuple[pa.Schema, pa.Schema]
"""Of the rows and of the answers."""


class Record(NamedTuple):
    """One record of a file: what it is, what it holds, and where the next one begins."""

    kind: int
    payload: bytes
    after: int


def framed(mark: bytes, kind: int, payload: bytes) -> bytes:
    """Return a record: its file's mark, its length, its checksum, its kind, its payload."""
    return _HEAD.pack(mark, len(payload), zlib.crc32(payload, kind), kind) + payload


def head_of(mark: bytes, head: bytes) -> tuple[int, int, int] | None:
    """Return a record's length, checksum and kind; nothing where no record begins."""
    found, length, checksum, kind = _HEAD.unpack(head)
    return (length, checksum, kind) if found == mark else None


def is_whole(payload: bytes, checksum: int, kind: int) -> bool:
    """Whether a payload is as it was written."""
    return zlib.crc32(payload, kind) == checksum


def plain_parts(entry: Answered) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Return the rows and the answers as one batch each, without dictionaries: each record is read by itself."""
    return _plain(pa.Table.from_batches([entry.rows])), _plain(entry.answers)


def schemas_payload(number: int, schemas: Schemas) -> bytes:
    """Return what holds the schemas of further records, once a file instead of once a request."""
    return _joined({"number": number}, *(schema.serialize() for schema in schemas))


def answered_payload(entry: Answered, rows: pa.RecordBatch, answers: pa.RecordBatch, *, schemas: int) -> bytes:
    """Return what holds answers.

    Args:
        entry: The answers.
        rows: Their rows, as `plain_parts` returns them.
        answers: The same of the answers.
        schemas: The number under which the file has the schemas.
    """
    head = {
        "model": entry.model, "version": entry.version, "arm": entry.arm, "at": entry.at, "ids": entry.ids, "keys": entry.keys,
        "seconds": entry.seconds, "shadow": entry.shadow, "schemas": schemas,
    }  # fmt: skip
    return _joined(head, rows.serialize(), answers.serialize())


def plain_payload(entry: Outcomes | Unanswered) -> bytes:
    """Return what holds outcomes, or rows without answers."""
    return orjson.dumps(asdict(entry), option=orjson.OPT_SERIALIZE_NUMPY)


def read_schemas(payload: bytes) -> tuple[int, Schemas]:
    """Return schemas and their number."""
    head, rows, answers = _parted(payload)
    return int(head["number"]), (pa.ipc.read_schema(rows), pa.ipc.read_schema(answers))


def read_answered(payload: bytes, schemas: dict[int, Schemas]) -> Answered:
    """Return answers.

    Raises:
        KeyError: Their schemas are not there.
    """
    head, rows, answers = _parted(payload)
    of_rows, of_answers = schemas[head.pop("schemas")]
    batch = pa.ipc.read_record_batch(answers, of_answers)
    return Answered(**head, rows=pa.ipc.read_record_batch(rows, of_rows), answers=pa.Table.from_batches([batch]))


def read_outcomes(payload: bytes) -> Outcomes:
    """Return outcomes."""
    return Outcomes(**orjson.loads(payload))


def read_unanswered(payload: bytes) -> Unanswered:
    """Return rows without answers."""
    return Unanswered(**orjson.loads(payload))


def _plain(table: pa.Table) -> pa.RecordBatch:
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(field.type.value_type))
    batches = table.to_batches()
    if len(batches) != 1:
        batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


def _joined(head: dict[str, Any], first: pa.Buffer, second: pa.Buffer) -> bytes:
    written = orjson.dumps(head)
    written += b" " * (-len(written) % _ALIGNED)
    return b"".join((_LENGTHS.pack(len(written), first.size), written, first, b"\0" * (-first.size % _ALIGNED), second))


def _parted(payload: bytes) -> tuple[dict[str, Any], pa.Buffer, pa.Buffer]:
    head, first = _LENGTHS.unpack_from(payload)
    buffer, start = pa.py_buffer(payload), _LENGTHS.size + head
    after = start + first + -first % _ALIGNED
    return orjson.loads(payload[_LENGTHS.size : start]), buffer.slice(start, first), buffer.slice(after)
