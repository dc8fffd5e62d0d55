"""Decoders: what the bytes of a message become. One message is one row, or is set aside with the reason."""

from __future__ import annotations

import contextlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from deepseek.data.columns import EXACT
from deepseek.data.sources.ingested.manifest import record_name
from deepseek.data.sources.merging import conform, merged

_PIECE_ROWS = 16_384
_DEEPEST = 32
_MOST_BRACKETS = 200


@dataclass(frozen=True)
class Decoded:
    """What became of messages.

    Attributes:
        rows: A row for each message that could be decoded, in their order.
        bad: The places of the others among the messages, with the reasons.
    """

    rows: pa.Table
    bad: Mapping[int, str] = field(default_factory=dict)


class Decoder(ABC):
    """What turns bytes into rows; a [plugin](../guides/plugins.md) of the family `decoder` derives from it.

    A row depends on its own message alone, whatever comes beside it.
    """

    @abstractmethod
    def decode(self, values: pa.BinaryArray) -> Decoded:
        """Return what messages become.

        Args:
            values: The contents, none of them null.

        Returns:
            Rows and reasons, together as many as there are values.
        """


class JsonDecoder(Decoder):
    """Read each message as one JSON object; nested ones become columns with dotted names, lists of objects and mixed types become text.

    A name that begins with an underscore gets one more, as the columns that a snapshot adds begin with one. Points in time stay the text
    that they are until the columns' kinds are found.
    """

    def decode(self, values: pa.BinaryArray) -> Decoded:
        """Return the objects' columns."""
        tables, bad = [], dict[int, str]()
        for start in range(0, len(values), _PIECE_ROWS):
            piece = values.slice(start, _PIECE_ROWS)
            try:
                table = _by_arrow(piece)
            except (pa.ArrowException, ValueError):
                table, found = _one_by_one(piece)
                bad |= {start + place: reason for place, reason in found.items()}
            tables.append(table)
        tables = [table for table in tables if table.num_rows]
        if not tables:
            return Decoded(pa.table({}), bad)
        schema = merged([table.schema for table in tables], lambda number, place: [tables[number].column(place)])
        if not schema.names:
            return Decoded(_bare_rows(sum(table.num_rows for table in tables)), bad)
        whole = pa.concat_tables([conform(table, schema) for table in tables])
        return Decoded(whole.rename_columns([record_name(name) for name in whole.column_names]), bad)


class TextDecoder(Decoder):
    """Take each message as UTF-8 text, a column `text`; bytes that are none are set aside."""

    def decode(self, values: pa.BinaryArray) -> Decoded:
        """Return the column `text`."""
        try:
            return Decoded(pa.table({"text": values.cast(pa.string())}))
        except pa.ArrowInvalid:
            texts = [_text_of(value) for value in values.to_pylist()]
        bad = {place: "no UTF-8 text" for place, text in enumerate(texts) if text is None}
        return Decoded(pa.table({"text": pa.array([text for text in texts if text is not None], pa.string())}), bad)


class RawDecoder(Decoder):
    """Keep each message as the bytes that it is, a column `value`."""

    def decode(self, values: pa.BinaryArray) -> Decoded:
        """Return the column `value`."""
        return Decoded(pa.table({"value": values.cast(pa.binary())}))


def _text_of(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _by_arrow(values: pa.BinaryArray) -> pa.Table:
    """Return plain objects as columns, read by Arrow all at once; raise where one of them is anything else."""
    if not len(values):
        return pa.table({})
    # a line that begins with a brace gives one row or more: as many rows as lines says that each gave one
    if not pc.all(pc.starts_with(values, b"{")).as_py():
        raise ValueError("a message is no object")
    # Arrow's reader recurses: what could be nested deeply would end the process
    if pc.max(pc.add(pc.count_substring(values, "{"), pc.count_substring(values, "["))).as_py() > _MOST_BRACKETS:
        raise ValueError("a message has many brackets")
    if pc.any(pc.match_substring(values, "\n")).as_py():
        raise ValueError("a message has several lines")
    values.cast(pa.string())  # Arrow's reader does not ask whether texts are UTF-8
    data = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values), b"\n")[0].as_buffer()
    table = _read(data, None)
    moments = [one for one in table.schema if _has_moments(one.type)]
    if moments:  # Arrow takes text for a point in time where it looks like one; it shall come back as it was spelled
        table = _read(data, pa.schema([one.with_type(_without_moments(one.type)) for one in moments]))
    if table.num_rows != len(values):
        raise ValueError("a message holds several objects")
    depth = 0
    while any(pa.types.is_struct(one.type) for one in table.schema):
        table, depth = table.flatten(), depth + 1
        if depth > _DEEPEST:
            raise ValueError("objects within objects, too deep")
    if len(set(table.column_names)) < table.num_columns or not all(map(_is_exact, table.columns)):
        raise ValueError("what Arrow makes of it is not what was written")
    return table


def _read(data: pa.Buffer, schema: pa.Schema | None) -> pa.Table:
    return pa.json.read_json(
        pa.BufferReader(data),
        read_options=pa.json.ReadOptions(block_size=data.size + 1, use_threads=False),
        parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="infer"),
    )


def _has_moments(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) or any(_has_moments(kind.field(place).type) for place in range(kind.num_fields))


def _without_moments(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([one.with_type(_without_moments(one.type)) for one in kind])
    if pa.types.is_list(kind):
        return pa.list_(_without_moments(kind.value_type))
    return pa.string() if pa.types.is_timestamp(kind) else kind


def _is_exact(column: pa.ChunkedArray) -> bool:
    """Whether values came as they were written: floats may have been whole numbers that no float holds, objects in lists get all names."""
    kind = column.type
    if pa.types.is_list(kind):
        column, kind = pc.list_flatten(column), kind.value_type
    if pa.types.is_nested(kind):
        return False
    return not pa.types.is_floating(kind) or not pc.any(pc.greater_equal(pc.abs(column), float(EXACT))).as_py()


def _bare_rows(count: int) -> pa.Table:
    """Return rows without a column."""
    return pa.Table.from_struct_array(pa.array([{}] * count, pa.struct([])))


def _one_by_one(values: pa.BinaryArray) -> tuple[pa.Table, dict[int, str]]:
    """Return objects as columns, read one after the other, and what is wrong with the others."""
    records, bad = [], {}
    for place, value in enumerate(values.to_pylist()):
        try:
            records.append(_flat(_object(value)))
        except (ValueError, RecursionError) as error:
            bad[place] = str(error)[:200] or "objects within objects without end"
    names = dict.fromkeys(name for record in records for name in record)
    if not names:
        return _bare_rows(len(records)), bad
    return pa.table({name: _column([record.get(name) for record in records]) for name in names}), bad


def _object(value: bytes) -> dict[str, Any]:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise ValueError("no UTF-8 text") from None
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_float=_float)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__} instead of an object")  # noqa: TRY004 - the message's fault, as all others here
    return found


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:50]} is beyond floats of 64 bits")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {max(names, key=names.count)!r} stands twice")
    return found


def _flat(record: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise ValueError(f"objects within objects, more than {_DEEPEST} deep")
    flat: dict[str, Any] = {}
    for name, value in record.items():
        _check_text(name)
        inner = _flat(value, f"{prefix}{name}.", depth + 1) if isinstance(value, dict) else {f"{prefix}{name}": value}
        _check_text(value)
        if doubled := flat.keys() & inner.keys():
            raise ValueError(f"two fields are called {min(doubled)!r}")
        flat |= inner
    return flat


def _check_text(value: object) -> None:
    """Refuse half a surrogate pair, which JSON can spell and no text can hold."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("half a surrogate pair") from None
    elif isinstance(value, list):
        for one in value:
            _check_text(one)


def _column(values: list[Any]) -> pa.Array:
    """Return values as a column of their type; as text where they have none in common, or are lists of anything but plain values."""
    if any(isinstance(one, list) and any(isinstance(part, list | dict) for part in one) for one in values):
        return pa.array([_text(value) for value in values], pa.string())
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pa.nulls(len(values))
    exact = float not in kinds or all(abs(value) <= EXACT for value in values if type(value) is int)
    if exact and (len(kinds) == 1 or kinds == {int, float}):
        with contextlib.suppress(pa.ArrowException, OverflowError, TypeError, ValueError):  # beyond 64 bits; lists of several types
            return pa.array(values)
    return pa.array([_text(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return str(int(value))  # as `as_text` spells a column of floats that becomes text later
    return json.dumps(value, ensure_ascii=False)
