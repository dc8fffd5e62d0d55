"""The rows of a request: from JSON, Arrow or a form to one Arrow batch, and for every bad value its row, its field and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa

from deepseek.data.preparation import Preparation
from deepseek.data.transforms.audio import AudioTransform
from deepseek.data.transforms.category import CategoryTransform
from deepseek.data.transforms.image import ImageTransform
from deepseek.data.transforms.number import NumberTransform
from deepseek.data.transforms.series import SeriesTransform
from deepseek.errors import closest
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.rows.fields import FILE_KINDS, FieldReader, field_reader
from deepseek.serving.rows.ipc import read_stream

SHOWN_CHARACTERS = 80
EXAMPLES = 5
LIKELY = 20
_ABSENT = object()

Bad = dict[int, list[dict[str, Any]]]
"""By row, its bad fields: each with `field`, `given`, `allowed`, `message`."""


@dataclass
class Rows:
    """The rows of one request.

    Attributes:
        count: How many were given.
        batch: Those that can be answered, in their order.
        bad: The others, with their errors.
        single: Whether one row was given as itself, not in a list.
        warnings: What the client should know.
        keys: Whom each given row is about, where an experiment asks for that.
        lost: Those of the bad ones that are none of the client's fault: what answers died of them.
    """

    count: int
    batch: pa.RecordBatch
    bad: Bad = field(default_factory=dict)
    single: bool = False
    warnings: list[str] = field(default_factory=list)
    keys: list[str | None] | None = None
    lost: set[int] = field(default_factory=set)

    def set_aside(self, found: Mapping[int, str]) -> None:
        """Move rows that cannot be answered after all to the bad ones.

        Args:
            found: Why, by the row's place in `batch`.
        """
        places = self.places
        for place, message in found.items():
            self.bad[places[place]] = [{"field": None, "given": None, "allowed": None, "message": message}]
        self.batch = self.batch.filter(pa.array([place not in found for place in range(self.batch.num_rows)]))

    def lose(self, found: Mapping[int, str]) -> None:
        """Move rows that killed what answers to the bad ones, as the server's failure."""
        places = self.places
        self.lost.update(places[place] for place in found)
        self.set_aside(found)

    @property
    def places(self) -> list[int]:
        """Which rows are in `batch`, by their numbers."""
        return [row for row in range(self.count) if row not in self.bad]


class RowReader:
    """Reads requests for one model, by the schema in its bundle.

    Args:
        preparation: The fitted preparation.
        max_rows: Most rows of one request.
    """

    def __init__(self, preparation: Preparation, *, max_rows: int = 10_000) -> None:
        self.max_rows = max_rows
        known = known_values(preparation)
        senses = [one for one in preparation.transforms if isinstance(one, ImageTransform | AudioTransform | SeriesTransform)]
        needed = {field.name for transform in senses if transform.missing == "fail" for field in transform.fields}
        widths = {transform.fields[0].name: transform.width for transform in senses if isinstance(transform, SeriesTransform)}
        self.fields: tuple[FieldReader, ...] = tuple(
            field_reader(
                preparation.schema[name],
                preparation.types.get(name),
                examples=known.get(name, ()),
                optional=name not in needed,
                width=widths.get(name, 1),
            )
            for name in preparation.columns
        )
        self.names = tuple(reader.name for reader in self.fields)
        self.schema = pa.schema([pa.field(reader.name, reader.type) for reader in self.fields])
        self._known = frozenset(self.names)
        self._direct = [reader for reader in self.fields if reader.direct]
        self._converted = [reader for reader in self.fields if not reader.direct]
        self._struct = pa.struct(list(self.schema))

    def read_json(self, body: bytes, key: str | None = None) -> Rows:
        """Read a JSON body: one row as an object, several as an array or under `rows`.

        Args:
            body: The body.
            key: The field that says whom a row is about; it need not be one of the model's.

        Raises:
            RefusedError: It is no JSON, or holds no rows.
        """
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RefusedError(400, f"the body is no JSON: {error}", hint="JSON in UTF-8; NaN and Infinity are not JSON, null is") from None
        if isinstance(value, dict):
            if value.keys() == {"rows"} and "rows" not in self._known:
                value = value["rows"]
            else:
                return self.read([value], single=True, key=key)
        if not isinstance(value, list):
            raise RefusedError(422, f"the body is {shown(value)}", hint=_SHAPES)
        return self.read(value, key=key)

    def read(self, rows: Sequence[Any], *, single: bool = False, key: str | None = None) -> Rows:
        """Read rows as mappings of values by field.

        Raises:
            RefusedError: There are too many, or none.
        """
        self._count(len(rows))
        bad: Bad = {}
        if not all(type(row) is dict for row in rows):
            for place, row in enumerate(rows):
                if type(row) is not dict:
                    bad[place] = [_error(None, row, "an object with a value for each field")]
            rows = [row if type(row) is dict else {} for row in rows]
        batch = None if bad else self._read_at_once(rows)
        if batch is None:
            batch = self._without(self._read_each(rows, bad), bad)
        made = Rows(len(rows), batch, bad, single)
        if key is not None:
            made.keys = [_key(row.get(key)) for row in rows]
        if any(len(row) != len(self.names) for row in rows):
            self._tell_of_others((name for row in rows if row.keys() != self._known for name in row if name != key), made)
        return made

    def _read_each(self, rows: Sequence[dict[str, Any]], bad: Bad) -> pa.RecordBatch:
        """Return column by column what can be read, and note what cannot."""
        columns = []
        for reader in self.fields:
            name = reader.name
            try:
                values = [row[name] for row in rows]
            except KeyError:
                values = self._absent(reader, rows, bad)
            column, wrong = reader.read(values)
            for place in wrong:
                if values[place] is not None or name in rows[place]:
                    bad.setdefault(place, []).append(_error(name, values[place], reader.allowed))
            columns.append(column)
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _read_at_once(self, rows: Sequence[dict[str, Any]]) -> pa.RecordBatch | None:
        """Return all columns, or nothing where a value is not as it should be: then each is looked at by itself.

        One call instead of one a column: for a small request that is most of what reading it costs.
        """
        try:
            if not all(reader.takes([row[reader.name] for row in rows]) for reader in self._direct):
                return None
            if self._converted:
                rows = [row | {reader.name: reader.convert(row[reader.name]) for reader in self._converted} for row in rows]
            return pa.RecordBatch.from_struct_array(pa.array(rows, self._struct))
        except (KeyError, ValueError, OverflowError):  # a field is missing or wrong, or a whole number beyond what float64 holds exactly
            return None

    def _absent(self, reader: FieldReader, rows: Sequence[Mapping[str, Any]], bad: Bad) -> list[Any]:
        values = [row.get(reader.name, _ABSENT) for row in rows]
        for place, value in enumerate(values):
            if value is _ABSENT:
                values[place] = None
                if not (place in bad and bad[place][0]["field"] is None):
                    error = self._missing(reader, () if bad else rows[place])
                    bad.setdefault(place, []).append(error)
        return values

    def _missing(self, reader: FieldReader, row: Iterable[str]) -> dict[str, Any]:
        spare = islice((name for name in row if name not in self._known), LIKELY)  # likeness is dear, and names come from strangers
        guess = closest(reader.name, spare)
        meant = f"; {guess!r} may be meant" if guess else ""
        message = f"the field {reader.name!r} is missing{meant}; allowed: {reader.allowed}"
        return {"field": reader.name, "given": None, "allowed": reader.allowed, "message": message}

    def read_arrow(self, body: bytes, key: str | None = None) -> Rows:
        """Read an Arrow IPC stream.

        Args:
            body: The body.
            key: The column that says whom a row is about.

        Raises:
            RefusedError: It is none, or lacks a column, or a column is of another type.
        """
        batch = read_stream(body, max_rows=self.max_rows)
        self._count(batch.num_rows)
        columns, bad, errors = [], Bad(), []
        for reader in self.fields:
            place = batch.schema.get_field_index(reader.name)
            if place < 0:
                errors.append(self._missing(reader, batch.schema.names))
                continue
            try:
                column, wrong = reader.take(batch.column(place))
                if reader.kind in FILE_KINDS:
                    column, wrong = reader.read(column.to_pylist())
            except ValueError as error:
                errors.append(_error(reader.name, f"a column of {error}", reader.allowed))
                continue
            for row in wrong:
                bad.setdefault(row, []).append(_error(reader.name, column[row].as_py(), reader.allowed))
            columns.append(column)
        if errors:
            raise RefusedError(422, "; ".join(error["message"] for error in errors), errors=errors)
        made = Rows(batch.num_rows, self._without(pa.RecordBatch.from_arrays(columns, schema=self.schema), bad), bad)
        if key is not None:
            place = batch.schema.get_field_index(key)
            made.keys = [None] * batch.num_rows if place < 0 else [_key(value) for value in batch.column(place).to_pylist()]
        self._tell_of_others((name for name in batch.schema.names if name != key), made)
        return made

    def read_form(self, parts: Mapping[str, bytes], key: str | None = None) -> Rows:
        """Read one row from a form: files as they are, other values as JSON or, where the field takes text, as text."""
        row: dict[str, Any] = {}
        for name, content in parts.items():
            reader = next((one for one in self.fields if one.name == name), None)
            row[name] = content if reader is None or reader.kind in FILE_KINDS else _form_value(reader, content)
        made = self.read([row], single=True, key=key)
        if key is not None and key in parts:
            made.keys = [parts[key].decode(errors="replace") or None]
        return made

    def _count(self, rows: int) -> None:
        if not rows:
            raise RefusedError(422, "there is no row to answer", hint=_SHAPES)
        if rows > self.max_rows:
            raise RefusedError(
                413, f"the request has {rows:,} rows; at most {self.max_rows:,} are allowed", hint="send them in several requests"
            )

    def _without(self, batch: pa.RecordBatch, bad: Bad) -> pa.RecordBatch:
        return batch if not bad else batch.filter(pa.array([row not in bad for row in range(batch.num_rows)]))

    def _tell_of_others(self, names: Iterable[str], rows: Rows) -> None:
        others = sorted({name for name in names if name not in self._known})
        if others:
            more = f" and {len(others) - EXAMPLES} others" if len(others) > EXAMPLES else ""
            rows.warnings.append(f"not fields of the model, and ignored: {', '.join(shown(name) for name in others[:EXAMPLES])}{more}")

    def example(self) -> dict[str, Any]:
        """Return a row that is right."""
        return {reader.name: reader.example for reader in self.fields}


_SHAPES = 'send one row as an object {"FIELD": VALUE, …}, several as an array of them, or {"rows": [...]}'


def known_values(preparation: Preparation) -> dict[str, tuple[Any, ...]]:
    """Return, by column, values that training knew: the most frequent categories, the median of numbers."""
    known: dict[str, tuple[Any, ...]] = {}
    for transform in preparation.transforms:
        if isinstance(transform, CategoryTransform):
            for name, texts in transform.vocabularies.items():
                known[name] = tuple(_spelled(text, preparation.types.get(name)) for text in texts[:EXAMPLES])
        elif isinstance(transform, NumberTransform):
            state = transform.to_json()
            offsets = state.get("offset") or [0.0] * len(transform.fields)
            for one, fill, offset in zip(transform.fields, state["fill"], offsets, strict=True):
                known[one.name] = (float(f"{fill + offset:.4g}"),)
    return known


def _spelled(text: str, kind: pa.DataType | None) -> Any:
    if kind is not None and pa.types.is_boolean(kind):
        return text == "true"
    if kind is not None and pa.types.is_integer(kind):
        return int(text)
    return float(text) if kind is not None and pa.types.is_floating(kind) else text


def _form_value(reader: FieldReader, content: bytes) -> Any:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return content
    if reader.type in (pa.string(), pa.timestamp("us")):
        return text or None
    try:
        return orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return text


def _key(value: Any) -> str | None:
    """Return a key as text, the same however the client spells the number; nothing where there is none."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value) or None
    return None


def _error(name: str | None, given: Any, allowed: str) -> dict[str, Any]:
    what = f"the field {name!r}" if name is not None else "the row"
    text = shown(given)
    return {"field": name, "given": text, "allowed": allowed, "message": f"{what} is {text}; allowed: {allowed}"}


def shown(value: Any) -> str:
    """Return a value for a message as JSON writes it, cut where it is long; of bytes, lists and objects only how large they are."""
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, list | dict):
        return f"{'an array' if isinstance(value, list) else 'an object'} of {len(value):,}"
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return f"{orjson.dumps(value[:SHOWN_CHARACTERS]).decode()}…"
    return orjson.dumps(value, default=str).decode()
