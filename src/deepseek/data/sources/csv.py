"""Delimited text: CSV, TSV and their relatives, read by Arrow's streaming parser."""

from __future__ import annotations

import copy
import itertools
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import pyarrow as pa
import pyarrow.csv

from deepseek.data.sources.column_types import FALSE_VALUES, TRUE_VALUES, ColumnType, converted, trimmed
from deepseek.data.sources.dialect import (
    ALONE,
    SAMPLE_BYTES,
    Dialect,
    QuoteScan,
    Record,
    has_header,
    records_of,
    sniff_decimal,
    sniff_delimiter,
    split_lines,
)
from deepseek.data.sources.files import FileSource, PathLike, check_same_columns, reading, reject_batch, unique_names
from deepseek.data.sources.text import BlockStream, check_encoding, utf8_blocks
from deepseek.errors import DataError, InputError, UnknownNameError

NULL_VALUES = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", "\\N")
_LONGEST_RECORD = 1 << 28
_FIRST_BLOCK = 1 << 20
_PIECE_BYTES = 1 << 21


@dataclass(frozen=True)
class _Part:
    """One file: how it is written, how many records it holds and how many of them are malformed."""

    file: Path
    dialect: Dialect
    rows: int
    malformed: int
    block_bytes: int
    multiline: bool


@dataclass(frozen=True)
class _Plan:
    """What a whole pass over the files found out."""

    parts: tuple[_Part, ...]
    schema: pa.Schema
    padded: frozenset[str]


class CsvSource(FileSource):
    """Read delimited text files, plain or packed as `.gz`, `.zip`, `.bz2`, `.xz` or `.zst`.

    Types are found by a whole pass over the text, because a guess from the first block is wrong as soon as a later row says otherwise; the
    pass is made once for as long as the files do not change. Records with too few or too many fields are set aside (`rejects`), never
    padded.
    Blank lines are no records.

    Args:
        folder: What relative paths are relative to.
        path: A path, a pattern with `*`, a URL, or a list of them. All files must have the same columns.
        delimiter: What stands between fields, one character; found by looking where not given.
        header: Whether the first record names the columns; found by looking where not given. Without a header, columns are named
            `column_0`, `column_1`, …
        names: The columns' names, instead of those of the header.
        encoding: How the text is encoded: `utf-8`, `latin-1`, `cp1252`, `utf-16` …
        quote: What encloses a field that holds delimiters or line ends; null for nothing. With `auto` it is `"`, unless the quotes of a
            file do not pair up, so that reading them as quotes would hide lines.
        null_values: The spellings of a missing value.
        types: Arrow types of some columns, for example `{zip: string, price: float64}`; the others are found.
        strip: Whether spaces around a value are left out.
        decimal_point: `.` or `,`; found by looking where not given.
        member: Which file of a `.zip` to read, where it holds several.
        on_bad_line: What to do with a record of the wrong number of fields: `reject` (count it and set it aside) or `fail`.

    Raises:
        DataError: A file cannot be read as text, has no rows, or most of its records are malformed.
    """

    def __init__(  # noqa: PLR0913 (a component's arguments are its schema)
        self,
        folder: Path = Path(),
        /,
        *,
        path: PathLike,
        delimiter: str | None = None,
        header: bool | None = None,
        names: list[str] | None = None,
        encoding: str = "utf-8",
        quote: str | None = "auto",
        null_values: list[str] | None = None,
        types: dict[str, str] | None = None,
        strip: bool = True,
        decimal_point: Literal[".", ","] | None = None,
        member: str | None = None,
        on_bad_line: Literal["fail", "reject"] = "reject",
    ) -> None:
        super().__init__(folder, path=path)
        for key, value in (("delimiter", delimiter), ("quote", None if quote == "auto" else quote)):
            if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n"):
                raise InputError(f"{key} is {value!r}", hint="give one ASCII character, for example ',' or '\\t'")
        self.delimiter, self.header, self.names, self.quote = delimiter, header, names, quote
        self.encoding, self.member = check_encoding(encoding), member
        self.null_values = list(NULL_VALUES) if null_values is None else null_values
        self.types = {name: _arrow_type(name, alias) for name, alias in (types or {}).items()}
        self.strip, self.decimal_point, self.on_bad_line = strip, decimal_point, on_bad_line
        self._texts: frozenset[str] = frozenset()
        self._planned: tuple[object, _Plan] | None = None

    def as_text(self, columns: Collection[str]) -> Self:
        """Return a source that reads these columns as text, where `types` does not say otherwise."""
        again = copy.copy(self)
        again._texts, again._planned = frozenset(columns), None  # noqa: SLF001 - a copy of itself
        return again

    def schema(self) -> pa.Schema:
        """Return the columns and the narrowest types that hold every row."""
        return self._plan().schema

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the malformed records: the line on which each begins, what is wrong, and the text."""
        for part in self._plan().parts:
            if part.malformed:
                yield self._malformed(part)

    def _plan(self) -> _Plan:
        stamp = self.stamp()
        if self._planned is None or self._planned[0] != stamp:
            self._planned = (stamp, self._make_plan())
        return self._planned[1]

    def _make_plan(self) -> _Plan:
        files = self.files()
        found = [self._dialect(file) for file in files]
        first = found[0][0]
        for file, (dialect, _) in zip(files, found, strict=True):
            check_same_columns(file, dialect.names, first=files[0], expected=first.names)
        # a part that happens to hold whole numbers alone says nothing of how the others write fractions
        decimal = "," if any(dialect.decimal_point == "," for dialect, _ in found) else "."
        typers = self._typers(replace(first, decimal_point=decimal))
        parts = [
            self._survey(file, replace(dialect, decimal_point=decimal), multiline, typers)
            for file, (dialect, multiline) in zip(files, found, strict=True)
        ]
        if not any(part.rows for part in parts):
            raise DataError(f"{str(parts[0].file)!r} has column names but no rows", hint="if the first line is data, write header: false")
        schema = pa.schema(
            [(name, self.types.get(name, pa.string() if name in self._texts else typer.type)) for name, typer in typers.items()]
        )
        plan = _Plan(tuple(parts), schema, frozenset(name for name, typer in typers.items() if typer.padded))
        bad = next((part for part in parts if part.malformed), None)
        if bad and self.on_bad_line == "fail":
            record = self._malformed(bad).to_pylist()[0]
            raise DataError(
                f"{str(bad.file)!r}, line {record['line']}: {record['reason']}", hint="on_bad_line: reject sets such lines aside"
            )
        return plan

    def _typers(self, dialect: Dialect) -> dict[str, ColumnType]:
        for name in self.types:
            if name not in dialect.names:
                raise UnknownNameError("column under types", name, dialect.names)
        return {name: ColumnType(self.null_values, decimal_point=dialect.decimal_point, strip=self.strip) for name in dialect.names}

    def _blocks(self, file: Path) -> Iterator[bytes]:
        return utf8_blocks(file, encoding=self.encoding, member=self.member)

    def _dialect(self, file: Path) -> tuple[Dialect, bool]:
        sample, whole = _sample(self._blocks(file))
        lines = split_lines(sample)
        if len(lines) > 1 and not whole:
            lines.pop()  # it may be cut
        if not any(line.strip() for line in lines):
            raise DataError(f"{str(file)!r} is empty", hint="there is not even a line of column names")
        quote = '"' if self.quote == "auto" else self.quote
        delimiter = self.delimiter or sniff_delimiter(lines, quote)
        scan = QuoteScan(delimiter, quote or '"').scan(self._blocks(file)) if quote else None
        if scan and scan.broken:
            if self.quote != "auto":
                where = f"the quote on line {scan.open_line} is never closed" if scan.open_line else "quoted fields run into each other"
                raise DataError(f"{str(file)!r}: {where}", hint="if quotes are ordinary characters there, write quote: null")
            quote, scan = None, None
            delimiter = self.delimiter or sniff_delimiter(lines, quote)
        records = records_of(lines, delimiter, quote)
        if not records:
            raise DataError(f"{str(file)!r} cannot be split into fields", hint="its first record is too long; is it text?")
        return self._named(file, lines, records, delimiter, quote), bool(scan and scan.multiline)

    def _named(self, file: Path, lines: list[str], records: list[Record], delimiter: str, quote: str | None) -> Dialect:
        header = has_header(records, frozenset(self.null_values)) if self.header is None else self.header
        first = [field.strip() for field in records[0].fields]
        names = self.names or [name if header and name else f"column_{i}" for i, name in enumerate(first)]
        if self.names and len(self.names) != len(first):
            raise DataError(
                f"{str(file)!r} has {len(first)} columns, but {len(self.names)} names are given", hint=f"its first record: {first}"
            )
        skip = records[0].end if header else 0
        return Dialect(
            delimiter=delimiter,
            quote=quote,
            names=unique_names(names, file),
            decimal_point=self.decimal_point or sniff_decimal(records, delimiter),
            skip_bytes=sum(len(line.encode()) for line in lines[:skip]),
            skip_lines=skip,
        )

    def _survey(self, file: Path, dialect: Dialect, multiline: bool, typers: dict[str, ColumnType]) -> _Part:
        """Look at every value of a file once."""
        rows, malformed, block = 0, itertools.count(), _FIRST_BLOCK

        def count(_: pa.csv.InvalidRow) -> str:
            next(malformed)  # one step of the interpreter, and so safe from several threads
            return "skip"

        while True:
            part = _Part(file, dialect, 0, 0, block, multiline)
            try:
                rows, malformed = 0, itertools.count()
                for batch in self._parsed(part, dict.fromkeys(dialect.names, pa.string()), handler=count):
                    rows += batch.num_rows
                    for name, column in zip(batch.schema.names, batch.columns, strict=True):
                        typers[name].observe(column)
                break
            except pa.ArrowInvalid as error:
                # Arrow's blocks must hold a whole record; what was observed so far stays true.
                if "straddl" not in str(error) or block >= _LONGEST_RECORD:
                    raise DataError(f"{str(file)!r} cannot be parsed: {error}") from error
                block *= 8
        bad = next(malformed)
        if bad > rows:
            raise self._mostly_malformed(file, dialect, rows, bad)
        return _Part(file, dialect, rows, bad, block, multiline)

    def _mostly_malformed(self, file: Path, dialect: Dialect, rows: int, malformed: int) -> DataError:
        lines = split_lines(_sample(self._blocks(file))[0])
        guess = sniff_delimiter(lines[:-1] or lines, dialect.quote)
        other = 'set delimiter to what stands between the fields; for one column of plain text write delimiter: "\\x1f"'
        hint = other if guess in (dialect.delimiter, ALONE) else f"did you mean delimiter: {guess!r}?"
        width = len(dialect.names)
        return DataError(
            f"{str(file)!r}: {malformed:,} of {rows + malformed:,} records do not have the {width} fields of the first, "
            f"split at {dialect.delimiter!r}",
            hint=hint,
        )

    def _parsed(
        self, part: _Part, types: dict[str, pa.DataType], *, handler: object = None, threads: bool = True, columns: list[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield what Arrow makes of a file, with these types."""
        dialect = part.dialect
        stream = BlockStream(self._blocks(part.file), skip=dialect.skip_bytes)
        wanted = list(dialect.names) if columns is None else columns
        read = pa.csv.ReadOptions(use_threads=threads, block_size=part.block_bytes, column_names=list(dialect.names))
        parse = pa.csv.ParseOptions(
            delimiter=dialect.delimiter,
            quote_char=dialect.quote or False,
            newlines_in_values=part.multiline,
            invalid_row_handler=handler or (lambda _: "skip"),
        )
        convert = pa.csv.ConvertOptions(
            column_types={name: types[name] for name in wanted},
            include_columns=wanted,
            null_values=self.null_values,
            strings_can_be_null=True,
            true_values=list(TRUE_VALUES),
            false_values=list(FALSE_VALUES),
            decimal_point=dialect.decimal_point,
        )
        if threads and not part.multiline:  # every line end ends a record
            return _side_by_side(stream, read, parse, convert)
        reader = _open_stream(stream, read, parse, convert)
        return iter(()) if reader is None else reader

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        plan = self._plan()
        names = [name for name in plan.schema.names if columns is None or name in columns] or plan.schema.names[:1]
        schema = pa.schema([plan.schema.field(name) for name in names])
        late = plan.padded & set(names)
        types = {field.name: pa.string() if field.name in late else field.type for field in schema}
        for part in plan.parts:
            decimal = part.dialect.decimal_point
            with reading(part.file):
                for batch in self._parsed(part, types, columns=names):
                    arrays = [
                        converted(trimmed(column, self.null_values), field.type, decimal) if field.name in late else column
                        for field, column in zip(schema, batch.columns, strict=True)
                    ]
                    yield pa.record_batch(arrays, schema=schema)

    def _malformed(self, part: _Part) -> pa.RecordBatch:
        """Return a file's malformed records, found by a pass on one thread: only then does Arrow know their numbers."""
        found: list[pa.csv.InvalidRow] = []

        def keep(row: pa.csv.InvalidRow) -> str:
            found.append(row)
            return "skip"

        name = part.dialect.names[0]
        for _ in self._parsed(part, {name: pa.string()}, handler=keep, threads=False, columns=[name]):
            pass
        lines = self._lines_of([row.number for row in found], part.dialect, part.file)
        reasons = [f"{row.actual_columns} fields instead of {row.expected_columns}" for row in found]
        return reject_batch(lines, reasons, [row.text for row in found])

    def _lines_of(self, numbers: list[int], dialect: Dialect, file: Path) -> list[int | None]:
        """Return the line on which each of these records begins; Arrow counts records, from 1, and no blank lines."""
        begins: dict[int, int] = {}
        wanted, record, inside = set(numbers), 0, False
        text = itertools.chain.from_iterable(_whole_lines(BlockStream(self._blocks(file), skip=dialect.skip_bytes)))
        quote = dialect.quote.encode() if dialect.quote else None
        for line, content in enumerate(text, dialect.skip_lines + 1):
            if not inside and content:
                record += 1
                if record in wanted:
                    begins[record] = line
            if quote and content.count(quote) % 2:
                inside = not inside
        return [begins.get(number) for number in numbers]


def _open_stream(stream: BlockStream, read: object, parse: object, convert: object) -> pa.csv.CSVStreamingReader | None:
    try:
        return pa.csv.open_csv(pa.PythonFile(stream, mode="r"), read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):
            return None
        raise


def _side_by_side(stream: BlockStream, read: pa.csv.ReadOptions, parse: object, convert: object) -> Iterator[pa.RecordBatch]:
    """Parse pieces of a text in several threads, in order; Arrow's streaming reader keeps one processor busy, whatever it is told."""

    def parsed(piece: bytes) -> list[pa.RecordBatch]:
        options = pa.csv.ReadOptions(use_threads=False, block_size=len(piece) + 1, column_names=read.column_names)
        try:
            table = pa.csv.read_csv(pa.BufferReader(piece), read_options=options, parse_options=parse, convert_options=convert)
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                return []
            raise
        return table.to_batches()  # type: ignore[no-any-return]

    workers = pa.cpu_count()
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[list[pa.RecordBatch]]] = deque()
        for piece in _pieces(stream):
            waiting.append(pool.submit(parsed, piece))
            if len(waiting) > workers:
                yield from waiting.popleft().result()
        for future in waiting:
            yield from future.result()


def _pieces(stream: BlockStream) -> Iterator[bytes]:
    """Cut a text at line ends into pieces of some megabytes."""
    held: list[bytes] = []
    size, wanted = 0, _PIECE_BYTES
    while block := stream.read(_PIECE_BYTES):
        held.append(block)
        size += len(block)
        if size < wanted:
            continue
        data = b"".join(held)
        # where CRLF is cut apart, the LF that is left is a blank line, which is none
        cut = data.rfind(b"\n") + 1 or data.rfind(b"\r") + 1
        if not cut and size > _LONGEST_RECORD:
            raise pa.ArrowInvalid(f"a line is longer than {_LONGEST_RECORD >> 20} MiB")
        if cut:
            yield data[:cut]
        held, size = [data[cut:]], len(data) - cut
        wanted = max(_PIECE_BYTES, 2 * size)
    if size:
        yield b"".join(held)


def _whole_lines(stream: BlockStream) -> Iterator[list[bytes]]:
    rest = b""
    while block := stream.read(1 << 20):
        data = rest + block
        # A block that ends in CR may continue with the LF of the same line end.
        cut = data.rfind(b"\n") + 1
        lines, rest = data[:cut], data[cut:]
        yield lines.splitlines()
    yield rest.splitlines()


def _sample(blocks: Iterator[bytes]) -> tuple[str, bool]:
    """Return the beginning of a text, and whether that is all of it."""
    taken = b""
    for block in blocks:
        taken += block
        if len(taken) > SAMPLE_BYTES:
            return taken[:SAMPLE_BYTES].decode(errors="ignore"), False
    return taken.decode(), True


def _arrow_type(name: str, alias: str) -> pa.DataType:
    try:
        return pa.type_for_alias(alias)
    except ValueError:
        raise InputError(
            f"the type of column {name!r} is {alias!r}", hint="give an Arrow type: string, int64, float64, bool, date32, timestamp[us] …"
        ) from None
