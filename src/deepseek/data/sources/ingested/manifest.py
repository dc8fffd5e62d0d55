"""The folder that `deepseek ingest` writes and the source `ingest` reads: topics, their parts, the manifest that says which count.

```text
FOLDER/ingest.json                       the format's version
FOLDER/index.sqlite, lock, spool/        the server's own: which contents came, what is not in a part yet
FOLDER/topics/TOPIC/manifest.json        the parts that count; replaced whole, so that a reader sees one state or the next
FOLDER/topics/TOPIC/parts/N.rows.parquet, N.contents.parquet, N.rejects.parquet
FOLDER/topics/TOPIC/blobs/ab/abcd….png   images, audio and other files, under the hash of what they hold
```

Contents are numbered in the order of their arrival (`_seq`), over all topics; a state of the folder is named by the last number in it, and
every earlier state can be read again, as nothing is ever changed or taken away.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from deepseek.artifacts.files import read_json, write_json
from deepseek.data.sources.base import INGESTED
from deepseek.data.sources.ingested.columns import one_column
from deepseek.errors import DataError

FORMAT = 1
ID, AT, SEQ, ROW = "_id", "_at", "_seq", "_row"
"""The columns that every row has: its content's id, when that came (UTC), its number, and the row's place in it."""
COUNTERS = (SEQ, ROW)
"""Those of them that a reader is not shown: they would be taken for numbers to learn from."""
BLOBS = ("image", "audio", "file")
"""The columns that hold paths of what was posted."""
MANIFEST = "manifest.json"
TOPICS = "topics"
FIRST_CHAIN = hashlib.sha256(b"deepseek ingest 1").hexdigest()
MICROSECONDS = pa.timestamp("us")
_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_EXACT, _TOLD_BY_FLOATS = 2**53, 15
"""Up to where floats hold every whole number, and the digits up to which they tell decimals apart."""

PartFile = Literal["rows", "contents", "rejects"]
Look = Callable[[int, int], Iterable[pa.ChunkedArray]]
"""Gives the values of a column: the number of its schema, and its place in that."""


@dataclass(frozen=True)
class Part:
    """Rows that came one after the other, in files that never change.

    Attributes:
        number: Its name.
        first: The number of the first content in it.
        last: The number of the last.
        contents: How many contents are in it.
        rows: Their rows.
        rejected: Records that were refused when they came.
        chain: What names every content up to the last one: see `link`.
        files: By kind, each file's name, size and SHA-256; there are no rows where every record was refused, and no rejects where none was.
    """

    number: int
    first: int
    last: int
    contents: int
    rows: int
    rejected: int
    chain: str
    files: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The state of one topic.

    Attributes:
        topic: Its name.
        parts: The parts that count, in order.
    """

    topic: str
    parts: tuple[Part, ...] = ()

    @property
    def version(self) -> int:
        """The number of the last content; 0 where there is none."""
        return self.parts[-1].last if self.parts else 0

    @property
    def chain(self) -> str:
        """What names every content so far."""
        return self.parts[-1].chain if self.parts else FIRST_CHAIN

    @property
    def counts(self) -> dict[str, int]:
        """How many contents, rows and rejected records there are."""
        return {name: sum(getattr(part, name) for part in self.parts) for name in ("contents", "rows", "rejected")}

    @classmethod
    def read(cls, folder: Path, topic: str) -> Manifest:
        """Return a topic's state, an empty one where nothing of it is in a part yet.

        Raises:
            BundleError: The manifest is damaged.
            DataError: It was written by a newer version.
        """
        path = topic_folder(folder, topic) / MANIFEST
        if not path.is_file():
            return cls(topic)
        value = read_json(path)
        if value["format"] != FORMAT:
            raise DataError(f"{path} has the format {value['format']}; this version reads {FORMAT}", hint="update deepseek-framework")
        return cls(topic, tuple(Part(**part) for part in value["parts"]))

    def write(self, folder: Path) -> None:
        """Replace the topic's manifest, durably, in one step.

        Raises:
            RunError: The disk refuses.
        """
        value = {"format": FORMAT, "topic": self.topic, "version": self.version, "chain": self.chain, **self.counts}
        write_json(topic_folder(folder, self.topic) / MANIFEST, {**value, "parts": [asdict(part) for part in self.parts]})

    def path(self, folder: Path, part: Part, kind: PartFile) -> Path | None:
        """Return where a part's file is, or nothing where the part has none of this kind."""
        about = part.files.get(kind)
        return None if about is None else topic_folder(folder, self.topic) / "parts" / about["name"]


def topic_folder(folder: Path, topic: str) -> Path:
    """Return the folder of a topic."""
    return folder / TOPICS / topic


def is_topic(name: str) -> bool:
    """Whether a topic may be called so: 1 to 64 letters, digits or . _ -, the first a letter or digit."""
    return _TOPIC.fullmatch(name) is not None


def topics_of(folder: Path) -> list[str]:
    """Return the topics that have parts, sorted.

    Raises:
        DataError: The folder is none that `deepseek ingest` wrote.
    """
    if not (folder / INGESTED).is_file():
        raise DataError(f"{str(folder)!r} is no folder of ingested data", hint="name the folder that was given to deepseek ingest")
    return sorted(path.parent.name for path in (folder / TOPICS).glob(f"*/{MANIFEST}"))


def link(chain: str, content: Sequence[object]) -> str:
    """Return what names every content so far and one more.

    Each link is the hash of the one before and of what the content is, so that one name stands for all of them, in their order, however
    they are later cut into parts.

    Args:
        chain: The name so far; `FIRST_CHAIN` at first.
        content: Its number, id, hash, time and attributes, as plain JSON values.
    """
    return hashlib.sha256(f"{chain}\0{json.dumps(content, ensure_ascii=True, separators=(',', ':'))}".encode()).hexdigest()


def record_name(name: str) -> str:
    """Return the name of a record's field as a column: one that begins with an underscore gets one more, as `_id` is taken."""
    return f"_{name}" if name.startswith("_") else name


def attribute_name(name: str) -> str:
    """Return the name of an attribute as a column: `_` and the name in small letters, `-` as `_`; `_id_` for one that is taken."""
    column = "_" + name.lower().replace("-", "_")
    return f"{column}_" if column in (ID, AT, SEQ, ROW) else column


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns and types of a schema that was merged from its own and others.

    Missing columns are null; of columns with the same name a row has a value in one at most.
    """
    columns = []
    for target in schema:
        found = [_as_type(table.column(place), target.type) for place in table.schema.get_all_field_indices(target.name)]
        columns.append(one_column(found, target.type, table.num_rows))
    return pa.table(columns, schema=schema)


def _as_type(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    bytes_or_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or _is_bytes(column.type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or (_is_bytes(kind) and not bytes_or_text):
        return as_text(column).cast(kind)
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).cast(kind)
    return column.cast(kind, safe=False)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return values as text, spelled the same whether they become text at once or were widened before: 1 and 1.0 are both `1`."""
    kind = column.type
    if pa.types.is_floating(kind):
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**53))
        as_whole = pc.if_else(whole, column, 0.0).cast(pa.int64()).cast(pa.string())
        return pc.if_else(whole, as_whole, column.cast(pa.string()))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _as_type(column, MICROSECONDS).cast(pa.string())
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        return pa.chunked_array([[None if value is None else _text(value) for value in column.to_pylist()]], pa.string())
    return column.cast(pa.string())


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def merged(schemas: Sequence[pa.Schema], look: Look | None = None) -> pa.Schema:
    """Return the columns of all schemas in the order of their first coming; types that do not go together become text.

    Args:
        schemas: The schemas.
        look: Gives the values of a column by the places of its schema and in that: whole numbers that no float holds are looked for where
            others in the column are floats, and the column is text then. What is not looked at is taken for such as floats hold.
    """
    fields: dict[str, pa.Field] = {}
    for schema in schemas:
        for one in schema:
            known = fields.get(one.name)
            fields[one.name] = one.with_nullable(True) if known is None else known.with_type(_wider(known.type, one.type))
    if look is not None:
        for number, schema in enumerate(schemas):
            for place, one in enumerate(schema):
                meets_floats = pa.types.is_floating(_inner(fields[one.name].type)) and _inner(one.type) in (pa.int64(), pa.uint64())
                if meets_floats and any(_no_float_holds(column) for column in look(number, place)):
                    fields[one.name] = fields[one.name].with_type(pa.string())
    return pa.schema(list(fields.values()))


def _wider(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first == second:
        return first
    if all(pa.types.is_timestamp(kind) or pa.types.is_date(kind) for kind in (first, second)):
        return MICROSECONDS
    if pa.uint64() in (first, second) and all(pa.types.is_integer(kind) for kind in (first, second)):
        # Arrow would take numbers with a sign, and the greatest one without for -1
        return pa.uint64() if all(pa.types.is_unsigned_integer(kind) for kind in (first, second)) else pa.decimal128(20, 0)
    if any(pa.types.is_decimal(kind) for kind in (first, second)):
        return _wider_decimal(first, second)
    try:
        schemas = [pa.schema([pa.field("", kind)]) for kind in (first, second)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return pa.string()


def _wider_decimal(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return the number that holds what two types do, one of which is a decimal; text where there is none."""
    decimals = [kind for kind in (first, second) if pa.types.is_decimal(kind)]
    if any(pa.types.is_null(kind) for kind in (first, second)):
        return decimals[0]
    if any(pa.types.is_floating(kind) for kind in (first, second)):
        return pa.float64() if decimals[0].precision <= _TOLD_BY_FLOATS else pa.string()
    sizes = [size for size in map(_digits, (first, second)) if size is not None]
    whole, scale = (max(size[part] for size in sizes) for part in (0, 1))
    return pa.decimal128(whole + scale, scale) if len(sizes) == 2 and whole + scale <= 38 else pa.string()


def _digits(kind: pa.DataType) -> tuple[int, int] | None:
    """Return how many digits a number has before its point and behind it at most; nothing for other types."""
    if pa.types.is_decimal(kind):
        return kind.precision - kind.scale, kind.scale
    if not pa.types.is_integer(kind):
        return None
    return len(str(2 ** (kind.bit_width - pa.types.is_signed_integer(kind)))), 0


def _inner(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_list(kind) else kind


def _no_float_holds(column: pa.ChunkedArray) -> bool:
    values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    ends = pc.min_max(values).as_py()
    return ends["min"] is not None and bool(max(-ends["min"], ends["max"]) > _EXACT)
