"""Records of a body: JSON, JSON Lines, CSV or Arrow, turned to Arrow block by block; wrong ones are set aside with their reasons."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from deepseek.data.sources.csv import CsvSource
from deepseek.data.sources.files import RAW_CHARACTERS, plain_batch, plain_schema
from deepseek.data.sources.ingested.manifest import record_name
from deepseek.data.sources.json import JsonLinesSource, JsonSource, column_of
from deepseek.data.sources.merging import as_text
from deepseek.errors import DataError, InputError
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.intake.expected import Expected, Record
from deepseek.serving.intake.kinds import MediaType, charset_of
from deepseek.serving.intake.spool import Body, Spool
from deepseek.serving.rows.ipc import check_messages

BLOCK_ROWS = 8_192
MOST_COLUMNS = 2_000
MOST_REJECTS = 10_000
_LARGEST_OBJECT = 16_000_000
_DEEPEST = 32
_RECORDS = "send records: JSON objects, one a line or in an array; CSV with a header; or an Arrow stream"


@dataclass(frozen=True)
class Reject:
    """A record that is set aside.

    Attributes:
        line: Where it stands: its line in JSON and CSV, its number from 0 in Arrow.
        reason: Why.
        raw: What stood there, its first 2,000 characters.
        errors: By field, what was given and what is allowed.
    """

    line: int | None
    reason: str
    raw: str
    errors: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Landed:
    """The records of a body.

    Attributes:
        body: Arrow streams one behind the other, each a block with a schema of its own.
        rows: How many records they hold.
        rejects: The others.
        columns: The names and types of their columns.
    """

    body: Body
    rows: int
    rejects: list[Reject]
    columns: set[tuple[str, str]]


def land_records(body: Body, media: MediaType, *, most: int, expected: Expected | None) -> Landed:
    """Return the records of a body.

    Args:
        body: The body.
        media: What it is; its kind is one of records.
        most: Most records that it may have.
        expected: What records have to be.

    Raises:
        RefusedError: It cannot be read as what it says it is (422), or holds too much (413).
    """
    rejects: list[Reject] = []
    made = Spool(body.folder)
    rows, columns = 0, set[tuple[str, str]]()
    try:
        with _readable(body, media) as path, _plain_errors(path):
            blocks = (
                _blocks(path, media, rejects, most=most)
                if expected is None
                else _expected(path, media, rejects, expected=expected, most=most)
            )
            for block in blocks:
                rows += block.num_rows
                if rows > most:
                    raise RefusedError(413, f"the body has more than {most:,} records", hint="send them in several requests")
                if len(rejects) > MOST_REJECTS:
                    break
                if block.num_rows:
                    columns |= _write(made, block)
        if len(rejects) > MOST_REJECTS:
            raise RefusedError(
                422, f"more than {MOST_REJECTS:,} records are bad, the first at line {rejects[0].line}: {rejects[0].reason}", hint=_RECORDS
            )
        return Landed(made.finish(), rows, rejects, columns)
    except BaseException:
        made.discard()
        raise


def tables_of(source: pa.NativeFile, size: int) -> Iterator[pa.Table]:
    """Yield the blocks that `land_records` wrote, as small tables.

    Args:
        source: What it wrote.
        size: How many bytes that is.
    """
    while source.tell() < size:
        with pa.ipc.open_stream(source) as stream:
            for batch in stream:
                yield pa.Table.from_batches([batch])


def _blocks(path: Path, media: MediaType, rejects: list[Reject], *, most: int) -> Iterator[pa.Table]:
    """Yield records as their sources read them: typed by the whole body."""
    if media.kind == "arrow":
        yield from _arrow(path, most)
        return
    source = _source(path, media)
    _add_malformed(source, rejects)
    if rejects and not isinstance(source, CsvSource):  # the source itself gives up where most are malformed
        for block in source.records():
            records = [_flat(record) for _, record in block]
            names = dict.fromkeys(name for record in records for name in record)
            yield pa.table({name: column_of([record.get(name) for record in records]) for name in names})
        return
    yield from (pa.Table.from_batches([batch]) for batch in source.read(batch_rows=BLOCK_ROWS))


def _expected(path: Path, media: MediaType, rejects: list[Reject], *, expected: Expected, most: int) -> Iterator[pa.Table]:
    """Yield the records that are as expected: each is looked at as it was written, before values are made alike."""
    if media.kind != "arrow":
        source = _source(path, media)
        _add_malformed(source, rejects)
    for block in _written(path, media, most):
        good, bad = expected.look(block, texts=media.kind == "csv")
        rejects += [
            Reject(block[place][0], "; ".join(one["message"] for one in errors), _raw(block[place][1]), errors)
            for place, errors in bad.items()
        ]
        yield good


def _written(path: Path, media: MediaType, most: int) -> Iterator[list[Record]]:
    if media.kind == "arrow":
        number = 0
        for table in _arrow(path, most):
            yield [(number + place, record) for place, record in enumerate(table.to_pylist())]
            number += table.num_rows
        return
    source = _source(path, media)
    if isinstance(source, CsvSource):
        number = 2  # the header is line 1
        for batch in source.as_text(source.schema().names).read(batch_rows=BLOCK_ROWS):
            yield [(number + place, record) for place, record in enumerate(batch.to_pylist())]
            number += batch.num_rows
        return
    for block in source.records():
        yield [(line, _flat(record)) for line, record in block]


def _source(file: Path, media: MediaType) -> CsvSource | JsonLinesSource | JsonSource:
    encoding, path = charset_of(media), str(file)
    if media.kind == "csv":
        delimiter = "\t" if media.name == "text/tab-separated-values" else media.parameters.get("delimiter")
        return CsvSource(path=path, header=True, delimiter=delimiter, encoding=encoding)
    return (JsonSource if media.kind == "json" else JsonLinesSource)(path=path, encoding=encoding)


def _add_malformed(source: CsvSource | JsonLinesSource | JsonSource, rejects: list[Reject]) -> None:
    with contextlib.suppress(DataError):
        source.schema()  # where this pass finds that nothing is malformed, the next one is spared
    for batch in source.rejects():
        rejects += [Reject(row["line"], row["reason"], row["raw"][:RAW_CHARACTERS]) for row in batch.to_pylist()]
        if len(rejects) > MOST_REJECTS:
            return


@contextmanager
def _readable(body: Body, media: MediaType) -> Iterator[Path]:
    """Give a file that a source reads: one object becomes an array of one."""
    if media.kind == "json" and _first_byte(body) == b"{":
        if body.size > _LARGEST_OBJECT:
            raise RefusedError(413, f"one JSON object of more than {_LARGEST_OBJECT:,} bytes", hint="send an array, or one object a line")
        spool = Spool(body.folder)
        for piece in (b"[", body.read(), b"]"):
            spool.write(piece)
        body = spool.finish()
        try:
            with body.as_file() as path:
                yield path
        finally:
            body.discard()
    else:
        with body.as_file() as path:
            yield path


def _first_byte(body: Body) -> bytes:
    with body.open() as file:
        return file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """Turn what a source says of its file into a refusal that says it of the body; where the server keeps it is nobody's affair."""
    try:
        yield
    except RefusedError:
        raise
    except (DataError, InputError) as error:
        message = error.message.replace(repr(str(path)), "the body").replace(str(path), "the body")
        raise RefusedError(422, message, hint=_RECORDS) from None
    except (pa.ArrowException, RecursionError, ValueError, TypeError, OverflowError) as error:
        raise RefusedError(422, f"the body cannot be read as records: {str(error)[:200]}", hint=_RECORDS) from None


def _arrow(path: Path, most: int) -> Iterator[pa.Table]:
    with pa.memory_map(str(path)) as mapped:
        buffer = mapped.read_buffer()
        check_messages(buffer, max_rows=most)
        with pa.ipc.open_stream(buffer) as stream:
            schema = plain_schema(stream.schema)
            for batch in stream:
                batch.validate(full=True)
                table = pa.Table.from_batches([plain_batch(batch, schema)])
                for start in range(0, table.num_rows, BLOCK_ROWS):
                    yield table.slice(start, BLOCK_ROWS)


def _write(spool: Spool, table: pa.Table) -> set[tuple[str, str]]:
    """Write a block; return the names and types of its columns."""
    if table.num_columns > MOST_COLUMNS:
        raise RefusedError(422, f"the records have {table.num_columns:,} fields; at most {MOST_COLUMNS:,} are allowed")
    for place, one in enumerate(table.schema):
        if pa.types.is_nested(one.type) and not _storable(one.type):  # lists of objects, say: kept as JSON
            table = table.set_column(place, one.name, as_text(table.column(place)))
        elif not _storable(one.type):
            raise RefusedError(422, f"the field {one.name!r} is of type {one.type}, which no kind of column can hold", hint="cast it")
    named = table.rename_columns([record_name(name) for name in table.column_names])
    # joined to one chunk a column: a slice would be written with what it was cut from
    with pa.ipc.new_stream(pa.PythonFile(spool, mode="w"), named.schema) as writer:
        writer.write_table(named.combine_chunks())
    return {(field.name, str(field.type)) for field in named.schema}


def _storable(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _storable(kind.value_type)
    tests = (
        pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_string, pa.types.is_binary,
        pa.types.is_timestamp, pa.types.is_date, pa.types.is_decimal128,
    )  # fmt: skip
    return any(test(kind) for test in tests)


def _flat(record: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Return nested objects as fields with dotted names, as the sources of JSON do."""
    if depth > _DEEPEST:
        raise RefusedError(422, f"a record has objects within objects, more than {_DEEPEST} deep")
    flat: dict[str, Any] = {}
    for name, value in record.items():
        inner = _flat(value, f"{prefix}{name}.", depth + 1) if isinstance(value, dict) else {f"{prefix}{name}": value}
        if doubled := flat.keys() & inner.keys():
            raise RefusedError(422, f"nested objects give two fields the same dotted name: {min(doubled)!r}", hint="rename one of them")
        flat |= inner
    return flat


def _raw(record: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(record, default=str).decode()[:RAW_CHARACTERS]
    except TypeError:  # whole numbers beyond 64 bits
        return json.dumps(record, default=str)[:RAW_CHARACTERS]
