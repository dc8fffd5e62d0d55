"""JSON: one array of objects, or one object a line; nested objects become columns with dotted names."""

from __future__ import annotations

import copy
import io
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from deepseek.data.columns import EXACT
from deepseek.data.sources.files import RAW_CHARACTERS, FileSource, PathLike, plain_type, reject_batch
from deepseek.data.sources.merging import no_float_holds
from deepseek.data.sources.text import check_encoding, utf8_blocks
from deepseek.errors import DataError

_BLOCK_BYTES = 1 << 20
_BLOCK_RECORDS = 10_000
_LONG_WHOLE = re.compile(rb"(?<![0-9.eE+])[0-9]{16,}(?![0-9.eE])")
"""A whole number that a float may change."""
_SURROGATE = b"\\ud"

Raw = tuple[int, bytes]
"""A record's text, with the number of the line on which it begins."""
_OnReject = Callable[[int, str, str], None]


class _RecordSource(FileSource):
    """What both kinds of JSON share: records in blocks, each block read by Arrow, or value by value where Arrow cannot.

    Whole numbers are never rounded: a column that has some which no float holds, and floats beside them, is text.
    """

    def __init__(
        self,
        folder: Path = Path(),
        /,
        *,
        path: PathLike,
        encoding: str = "utf-8",
        on_bad_line: Literal["fail", "reject"] = "reject",
    ) -> None:
        super().__init__(folder, path=path)
        self.encoding, self.on_bad_line = check_encoding(encoding), on_bad_line
        self._texts: frozenset[str] = frozenset()
        self._planned: tuple[object, pa.Schema, int] | None = None

    def as_text(self, columns: Collection[str]) -> Self:
        """Return a source that reads these keys as text; keys of nested objects keep the types of their values."""
        again = copy.copy(self)
        again._texts, again._planned = frozenset(columns), None  # noqa: SLF001 - a copy of itself
        return again

    @abstractmethod
    def _blocks(self, file: Path) -> Iterator[list[Raw]]:
        """Yield a file's records in blocks."""

    def schema(self) -> pa.Schema:
        """Return every key of every record as a column, with the narrowest type that holds all its values."""
        return _flat_schema(self._nested())

    def records(self) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        """Yield the objects in blocks, each with its line, as they are in the files: no value is made like the others of its column."""
        for file in self.files():
            for block in self._blocks(file):
                yield _numbered(block, _ignore)

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the records that are no JSON object."""
        found: list[tuple[int, str, str]] = []
        if self._planned is not None and self._planned[0] == self.stamp() and not self._planned[2]:
            return  # a whole pass found none
        for file in self.files():
            for block in self._blocks(file):
                _parse(block, lambda *bad: found.append(bad))
        if found:
            yield reject_batch(*zip(*found, strict=True))

    def _nested(self) -> pa.Schema:
        stamp = self.stamp()
        if self._planned is None or self._planned[0] != stamp:
            self._planned = (stamp, *self._survey())
        return self._planned[1]

    def _survey(self) -> tuple[pa.Schema, int]:
        schema = pa.schema([])
        records = bad = 0
        large: set[str] = set()
        for file in self.files():

            def reject(line: int, reason: str, _: str, file: Path = file) -> None:
                nonlocal bad
                bad += 1
                if self.on_bad_line == "fail":
                    raise DataError(f"{str(file)!r}, line {line}: {reason}", hint="on_bad_line: reject sets such records aside")

            for block in self._blocks(file):
                table = _table(block, None, reject)
                schema = _merged(schema, table.schema)
                large |= _beyond_floats(table)
                records += table.num_rows
        if bad > records:
            raise DataError(f"{bad:,} of {records + bad:,} records of {self.path!r} are no JSON objects", hint=self._hint)
        if not records or not schema.names:
            raise DataError(f"{self.path!r} holds no records", hint=self._hint)
        return pa.schema([field.with_type(pa.string()) if self._is_text(field, large) else field for field in schema]), bad

    def _is_text(self, field: pa.Field, large: Collection[str]) -> bool:
        if field.name in self._texts and not pa.types.is_nested(field.type):
            return True
        return any(leaf.name in large and _is_float(leaf.type) for leaf in _flat(pa.schema([field]).empty_table()).schema)

    _hint = ""

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        nested = self._nested()
        flat = _flat_schema(nested)
        for file in self.files():
            for block in self._blocks(file):
                table = _flat(_table(block, nested, _ignore)).cast(flat)
                yield from (table if columns is None else table.select(columns)).to_batches()


class JsonLinesSource(_RecordSource):
    """Read files of one JSON object a line; lines that are none are set aside (`rejects`).

    Args:
        folder: What relative paths are relative to.
        path: A path, a pattern with `*`, a URL, or a list of them; what is packed (`.gz`, `.zip`, `.bz2`, `.xz`, `.zst`) is unpacked.
        encoding: How the text is encoded.
        on_bad_line: What to do with a line that is no JSON object: `reject` (count it and set it aside) or `fail`.
    """

    _hint = "a file that is one array of objects is read by type: json"

    def _blocks(self, file: Path) -> Iterator[list[Raw]]:
        rest, line = b"", 1
        for block in utf8_blocks(file, encoding=self.encoding):
            cut = block.rfind(b"\n") + 1
            if cut == 0:
                rest += block
                continue
            lines = (rest + block[:cut]).split(b"\n")[:-1]
            rest = block[cut:]
            yield [(line + i, text) for i, text in enumerate(lines) if text.strip()]
            line += len(lines)
        if rest.strip():
            yield [(line, rest)]


class JsonSource(_RecordSource):
    """Read files that are each one JSON array of objects; elements that are none are set aside (`rejects`).

    The array is read element by element, so a file may be larger than memory.

    Args:
        folder: What relative paths are relative to.
        path: A path, a pattern with `*`, a URL, or a list of them; what is packed (`.gz`, `.zip`, `.bz2`, `.xz`, `.zst`) is unpacked.
        encoding: How the text is encoded.
        on_bad_line: What to do with an element that is no JSON object: `reject` (count it and set it aside) or `fail`.

    Raises:
        DataError: A file is no array, or breaks off.
    """

    _hint = "a file of one object a line is read by type: jsonl"

    def _blocks(self, file: Path) -> Iterator[list[Raw]]:
        block: list[Raw] = []
        size = 0
        for raw in self._elements(file):
            block.append(raw)
            size += len(raw[1])
            if len(block) >= _BLOCK_RECORDS or size >= _BLOCK_BYTES:
                yield block
                block, size = [], 0
        if block:
            yield block

    def _elements(self, file: Path) -> Iterator[Raw]:
        """Yield the elements' texts, found by decoding each once."""
        text = _Text(utf8_blocks(file, encoding=self.encoding))
        if text.peek() != "[":
            raise DataError(
                f"{str(file)!r} is no array of objects: it begins with {text.rest[text.at :][:20]!r}",
                hint=_coco_hint(text.rest) or self._hint,
            )
        text.at += 1
        if text.peek() == "]":
            text.at += 1
        else:
            while True:
                text.peek()
                line = text.line()
                yield line, text.element(file).encode()
                mark = text.peek()
                text.at += 1
                if mark == "]":
                    break
                if mark != ",":
                    raise DataError(
                        f"{str(file)!r}, line {text.line()}: expected ',' or ']' but found {mark or 'the end'!r}", hint="it is damaged"
                    )
        if text.peek():
            raise DataError(f"{str(file)!r}, line {text.line()}: there is text after the array", hint=self._hint)


def _coco_hint(start: str) -> str | None:
    """Return how a file of COCO is read, where a text begins as one."""
    if '"images"' not in start or not any(f'"{name}"' in start for name in ("annotations", "categories", "licenses", "info")):
        return None
    return "a file of COCO is read by data.source={type: coco, path: …, images: FOLDER}, with data.target=boxes"


class _Text:
    """A JSON text that is read from its beginning and forgotten behind."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self.rest, self.at, self._tail = blocks, "", 0, b""
        self._lines, self._counted = 1, 0
        self._decoder = json.JSONDecoder(parse_constant=_no_constant)

    def more(self) -> bool:
        """Read on; say whether there was anything."""
        block = next(self._blocks, None)
        if block is None:
            return False
        self.line()
        # UTF-8 blocks may end inside a character; what is incomplete waits for the next.
        data = self._tail + block
        whole = len(data)
        while whole and data[whole - 1] & 0xC0 == 0x80:
            whole -= 1
        if whole and data[whole - 1] >= 0xC0 and len(data) - whole + 1 < _width(data[whole - 1]):
            whole -= 1
        else:
            whole = len(data)
        self._tail = data[whole:]
        self.rest, self.at, self._counted = self.rest[self.at :] + data[:whole].decode(), 0, 0
        return True

    def line(self) -> int:
        """Return the number of the line where it stands."""
        self._lines += self.rest.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._lines

    def peek(self) -> str:
        """Return the next character that is no white space, or nothing at the end."""
        while True:
            while self.at < len(self.rest) and self.rest[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.rest):
                return self.rest[self.at]
            if not self.more():
                return ""

    def element(self, file: Path) -> str:
        """Return the text of the next value."""
        while True:
            try:
                _, end = self._decoder.raw_decode(self.rest, self.at)
                if end < len(self.rest) or not self.more():
                    text, self.at = self.rest[self.at : end], end
                    return text
            except RecursionError:
                raise DataError(f"{str(file)!r}, near line {self.line()}: it is nested too deep", hint="is it a table?") from None
            except ValueError as error:
                if not self.more():
                    raise DataError(f"{str(file)!r}, near line {self.line()}: {error}", hint="it is damaged, or breaks off") from error


def _width(lead: int) -> int:
    return 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def _no_constant(name: str) -> float:
    return float(name)


def _ignore(line: int, reason: str, raw: str) -> None:
    """Leave a bad record to `rejects`."""


def _table(block: list[Raw], schema: pa.Schema | None, reject: _OnReject) -> pa.Table:
    """Return a block of records as a table, of a schema where given."""
    try:
        # Arrow would take two objects on one line for two records, and the first of a doubled key: only plain blocks go its way.
        return _by_arrow(block, schema)
    except (pa.ArrowException, ValueError):
        records = _parse(block, reject)
        names = schema.names if schema else list(dict.fromkeys(key for record in records for key in record))
        arrays = [column_of([record.get(name) for record in records], schema.field(name).type if schema else None) for name in names]
        return pa.table(arrays, names=names) if names else pa.table({})


def _by_arrow(block: list[Raw], schema: pa.Schema | None) -> pa.Table:
    data = b"\n".join(text.replace(b"\n", b" ") for _, text in block)
    if any(not text.lstrip().startswith(b"{") for _, text in block):
        raise ValueError("a record is no object")
    table = pa.json.read_json(
        io.BytesIO(data),
        read_options=pa.json.ReadOptions(block_size=len(data) + 1, use_threads=False),
        parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore" if schema else "infer"),
    )
    if table.num_rows != len(block):
        raise ValueError("a line holds several records")
    if schema is None and _has_large_floats(table) and _LONG_WHOLE.search(data):
        raise ValueError("a whole number that a float would change")
    return table


def _has_large_floats(table: pa.Table) -> bool:
    """Whether a float is so large that it may have been a whole number which no float holds."""
    for column in _flat(table).columns:
        if _is_float(column.type):
            ends = pc.min_max(pc.list_flatten(column, recursive=True) if pa.types.is_list(column.type) else column).as_py()
            if ends["min"] is not None and max(-ends["min"], ends["max"]) >= EXACT:
                return True
    return False


def _beyond_floats(table: pa.Table) -> set[str]:
    """Return the columns, of nested objects by their dotted names, that have whole numbers which no float holds."""
    flat = _flat(table)
    whole = [(name, column) for name, column in zip(flat.column_names, flat.columns, strict=True) if _inner(column.type) == pa.int64()]
    return {name for name, column in whole if no_float_holds(column)}


def _is_float(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(_inner(kind)))


def _inner(kind: pa.DataType) -> pa.DataType:
    return _inner(kind.value_type) if pa.types.is_list(kind) else kind


def _parse(block: list[Raw], reject: _OnReject) -> list[dict[str, Any]]:
    return [record for _, record in _numbered(block, reject)]


def _numbered(block: list[Raw], reject: _OnReject) -> list[tuple[int, dict[str, Any]]]:
    records = []
    for line, text in block:
        try:
            record = json.loads(text)
            reason = None if isinstance(record, dict) else f"a {type(record).__name__} instead of an object"
            if _SURROGATE in text.lower():
                json.dumps(record, ensure_ascii=False).encode()  # half of a pair is no character, and no text can hold it
        except (ValueError, RecursionError) as error:
            record, reason = None, f"no JSON: {error}"
        if reason is None:
            records.append((line, record))
        else:
            reject(line, reason, text.decode(errors="replace")[:RAW_CHARACTERS])
    return records


def column_of(values: list[Any], kind: pa.DataType | None = None) -> pa.Array:
    """Return parsed values as a column, of a type where given; values that do not go together become text."""
    try:
        if kind is not None and pa.types.is_timestamp(kind):
            return pa.array(values, pa.string()).cast(kind)
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        if kind is not None and not pa.types.is_string(kind):
            raise
    return pa.array([None if value is None else value if isinstance(value, str) else json.dumps(value) for value in values], pa.string())


def _merged(first: pa.Schema, second: pa.Schema) -> pa.Schema:
    """Return the columns of both; a column whose types do not go together is text."""
    fields = {field.name: field for field in first}
    for field in second:
        known = fields.get(field.name)
        try:
            one = pa.unify_schemas([pa.schema([known]), pa.schema([field])], promote_options="permissive").field(0) if known else field
        except pa.ArrowException:
            one = pa.field(field.name, pa.string())
        fields[field.name] = one
    return pa.schema(list(fields.values()))


def _flat(table: pa.Table) -> pa.Table:
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def _flat_schema(schema: pa.Schema) -> pa.Schema:
    fields = [(field.name, plain_type(field.type)) for field in _flat(schema.empty_table()).schema]
    names = [name for name, _ in fields]
    if len(set(names)) < len(names):
        raise DataError("nested objects give two columns the same dotted name", hint=f"columns: {', '.join(names)}")
    return pa.schema(fields)
