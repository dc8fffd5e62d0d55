"""How a delimited text file is written: its delimiter, quoting, header and decimal point, found by looking."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

DELIMITERS = (",", "\t", ";", "|")
SAMPLE_BYTES = 1 << 18
ALONE = "\x1f"
"""The delimiter of a file of one column: the ASCII unit separator, which no text holds."""

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?%?")
_DATED = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[ T]\d{1,2}:\d{2}.*)?")
_COMMA_DECIMAL = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_POINT_DECIMAL = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")
_MAX_RECORDS = 2_000


@dataclass(frozen=True)
class Dialect:
    """How one file is written.

    Attributes:
        delimiter: What stands between two fields; `ALONE` where there is one column.
        quote: What encloses fields that hold delimiters, or nothing.
        names: The columns' names.
        decimal_point: `.` or `,`.
        skip_bytes: How many bytes of the UTF-8 text stand before the first record.
        skip_lines: How many lines those are.
    """

    delimiter: str
    quote: str | None
    names: tuple[str, ...]
    decimal_point: str
    skip_bytes: int
    skip_lines: int


@dataclass(frozen=True)
class Record:
    """A record of the sample: its fields and the line on which it ends, counted from 1."""

    fields: list[str]
    end: int


def split_lines(sample: str) -> list[str]:
    """Return the lines with their ends; only CR, LF and CRLF end a line."""
    return _LINE.findall(sample)


def records_of(lines: Sequence[str], delimiter: str, quote: str | None) -> list[Record]:
    """Return the records of a sample that are not blank, at most a few thousand; none where it cannot be parsed so."""
    reader = csv.reader(
        lines, delimiter=delimiter, quotechar=quote or '"', quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE, strict=False
    )
    records = []
    try:
        for fields in reader:
            if fields:
                records.append(Record(fields, reader.line_num))
            if len(records) == _MAX_RECORDS:
                break
    except csv.Error:
        return []
    return records


def sniff_delimiter(lines: Sequence[str], quote: str | None) -> str:
    """Return the delimiter under which the records agree best on how many fields they have.

    Where several agree equally, the one under which more fields are numbers or dates is right: `1,5;2,5` is two numbers, not
    three pieces. A space is taken only where every field is a number. A delimiter that the first record lacks is none.
    """
    best, best_score = ALONE, (0.0, 0.0)
    for delimiter in (*DELIMITERS, " "):
        records = records_of(lines, delimiter, quote)
        if not records or len(records[0].fields) < 2:
            continue
        width, agreeing = Counter(len(record.fields) for record in records).most_common(1)[0]
        body = [field for record in records[1:] or records for field in record.fields]
        typed = sum(1 for field in body if is_typed(field)) / len(body)
        consistency = agreeing / len(records) if width > 1 else 0.1 * (1 - agreeing / len(records))
        score = (round(consistency, 1), typed)
        if (delimiter != " " or (agreeing == len(records) and typed == 1)) and score > best_score:
            best, best_score = delimiter, score
    return best


def is_typed(field: str) -> bool:
    """Say whether a field looks like a number or a date rather than a word."""
    text = field.strip()
    return bool(_NUMBER.fullmatch(text) or _DATED.fullmatch(text))


def has_header(records: Sequence[Record], nulls: frozenset[str]) -> bool:
    """Say whether the first record names the columns.

    It does not where one of its fields is empty of meaning (a missing value) or looks like a number or a date. It does where a column
    below it is numbers or dates. In a table of words only, it does where it is unlike every column of few values below it.
    """
    first = [field.strip() for field in records[0].fields]
    body = [[field.strip() for field in record.fields] for record in records[1:] if len(record.fields) == len(first)]
    if any(is_typed(name) or (name in nulls and name) for name in first) or not any(first):
        return False
    if not body:
        return True
    columns = [[value for value in column if value not in nulls] for column in zip(*body, strict=True)]
    if any(column and sum(map(is_typed, column)) > len(column) / 2 for column in columns):
        return True
    if len(set(first)) < len(first):
        return False
    few = [(name, set(column)) for name, column in zip(first, columns, strict=True) if len(set(column)) <= max(1, len(column) // 2)]
    if few:
        return all(name not in values for name, values in few)
    if len(first) == 1 and " " in first[0]:
        return False
    return all(len(name) <= 40 and len(name) < max(map(len, column), default=0) for name, column in zip(first, columns, strict=True))


def sniff_decimal(records: Sequence[Record], delimiter: str) -> str:
    """Return `,` where numbers are written with a decimal comma, else `.`."""
    if delimiter == ",":
        return "."
    fields = [field.strip() for record in records for field in record.fields]
    commas = sum(1 for field in fields if _COMMA_DECIMAL.fullmatch(field))
    points = sum(1 for field in fields if _POINT_DECIMAL.fullmatch(field))
    return "," if commas > points else "."


@dataclass
class QuoteScan:
    """Whether the quotes of a text pair up, found block by block.

    A quote counts only where a field begins; between there and its end, two in a row stand for one. Broken quoting is dangerous, because
    one stray quote hides every line up to the next: then quotes are better read as ordinary characters.

    Attributes:
        count: How many quotes there are.
        multiline: Whether a quoted field holds a line end.
        swallowed: How many quoted fields span lines and do not end where a field ends.
        open_line: The line on which the last unclosed quote stands, counted from 1, at the end of the text.
    """

    delimiter: str
    quote: str = '"'
    count: int = 0
    multiline: bool = False
    swallowed: int = 0
    open_line: int | None = None
    lines: int = 0
    _before: int = 10
    _held: bytes = b""
    _doubled: bool = False
    _spans: bool = False

    def scan(self, blocks: Iterator[bytes]) -> QuoteScan:
        """Look at the whole text."""
        for block in blocks:
            data = self._held + block
            # One byte is held back, so that every quote that is looked at has a successor.
            self._held = data[-1:]
            self._look(data[:-1], data)
        self._look(self._held, self._held + b"\n")
        return self

    @property
    def broken(self) -> bool:
        """Whether reading with quotes would hide lines."""
        return self.swallowed > 0 or self.open_line is not None

    def _look(self, data: bytes, ahead: bytes) -> None:
        """Look at a block; `ahead` is the block and one byte more."""
        if not data:
            return
        quote = self.quote.encode()
        found = data.count(quote)
        self.count += found
        if found and (self._doubled or not self._paired(data, ahead, quote)):
            self._walk(data, ahead, quote)
        elif not found and self.open_line is not None:
            self._spans = self._spans or b"\n" in data
            self.multiline = self.multiline or _ends_line(data)
        self.lines += int(np.count_nonzero(np.frombuffer(data, np.uint8) == 10))  # several times as fast as `bytes.count`
        self._before = data[-1]

    def _paired(self, data: bytes, ahead: bytes, quote: bytes) -> bool:
        """Follow the quotes in one stroke, where each of them opens or closes a field or is doubled; say whether that is so."""
        if ahead[len(data) - 1 :] == quote * 2:
            return False
        array = np.frombuffer(ahead, np.uint8)
        at = np.flatnonzero(array[: len(data)] == quote[0])
        inside = self.open_line is not None
        opening, closing = (at[1::2], at[::2]) if inside else (at[::2], at[1::2])
        neighbours = np.zeros(256, bool)
        neighbours[list(f"{self.delimiter}\r\n".encode() + quote)] = True
        before = np.where(opening > 0, array[np.maximum(opening - 1, 0)], self._before)
        closed = np.zeros(len(ahead), bool)
        closed[closing] = True
        after_quote = (before == quote[0]) & ~((opening > 0) & closed[np.maximum(opening - 1, 0)])
        if not neighbours[before].all() or not neighbours[array[closing + 1]].all() or after_quote.any():
            return False
        if not self.multiline:
            text = array[: len(data)]
            self.multiline = bool(((np.searchsorted(at, np.flatnonzero((text == 10) | (text == 13))) + inside) % 2).any())
        if (len(at) % 2 == 1) != inside:
            last = int(opening[-1])
            self.open_line = self.lines + data.count(b"\n", 0, last) + 1
            self._spans = data.find(b"\n", last) >= 0
        else:
            self.open_line = None
        return True

    def _walk(self, data: bytes, ahead: bytes, quote: bytes) -> None:
        """Follow the quotes one by one."""
        edges = f"{self.delimiter}\r\n".encode()
        at, seen, line = data.find(quote), 0, self.lines + 1
        while at >= 0:
            ends = data.count(b"\n", seen, at)
            self.multiline = self.multiline or (self.open_line is not None and _ends_line(data[seen:at]))
            line, seen = line + ends, at
            self._spans = self._spans or ends > 0
            if self._doubled:
                self._doubled = False
            elif self.open_line is None:
                if (data[at - 1] if at else self._before) in edges:
                    self.open_line, self._spans = line, False
            elif ahead[at + 1 : at + 2] == quote:
                self._doubled = True
            else:
                self.swallowed += self._spans and ahead[at + 1] not in edges
                self.open_line = None
            at = data.find(quote, at + 1)
        self._spans = self._spans or data.find(b"\n", seen) >= 0
        self.multiline = self.multiline or (self.open_line is not None and _ends_line(data[seen:]))


def _ends_line(text: bytes) -> bool:
    return b"\n" in text or b"\r" in text
