"""Messages become rows: decoded, with where they stood beside them; what cannot be decoded is set aside as it came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.streams.decoders import Decoded, Decoder
from deepseek.data.streams.manifest import AT, KEY, OFFSET, PARTITION
from deepseek.errors import PluginError

_MOST_KEPT_BYTES = 65_536
REASON, RAW = "reason", "raw"


@dataclass(frozen=True)
class Rows:
    """What became of messages.

    Attributes:
        good: The decoded fields, then the partition and the offset of each, and when it was written and its key where any has such.
        bad: The others: partition, offset, time, key, the reason and what they were.
    """

    good: pa.Table
    bad: pa.Table


def rows_of(messages: pa.Table, decoder: Decoder, *, max_message: int) -> Rows:
    """Decode messages, none of which is lost: there are as many good and bad rows as messages.

    Args:
        messages: As `MESSAGES`.
        decoder: Says what bytes become.
        max_message: The most bytes that a message may have.

    Raises:
        PluginError: The decoder returns other than a row or a reason for each message.
    """
    values = _one_chunk(messages.column("value"))
    wanted = pc.fill_null(pc.less_equal(pc.binary_length(values), max_message), False).to_numpy(zero_copy_only=False)
    places = np.flatnonzero(wanted)
    reasons = {int(place): _refused(values[int(place)], max_message) for place in np.flatnonzero(~wanted)}
    given = values if len(places) == len(values) else values.take(pa.array(places))
    decoded = _decoded(given, decoder)
    reasons |= {int(places[place]): reason for place, reason in decoded.bad.items()}
    good = np.ones(len(values), dtype=bool)
    good[list(reasons)] = False
    kept = messages if good.all() else messages.filter(pa.array(good))
    return Rows(_with_places(decoded.rows, kept), _set_aside(messages, reasons))


def _decoded(values: pa.BinaryArray, decoder: Decoder) -> Decoded:
    try:
        decoded = decoder.decode(values)
    except Exception:  # noqa: BLE001 - the edge to foreign code: one message that it cannot bear shall not cost the others
        decoded = _one_by_one(values, decoder)
    if decoded.rows.num_rows + len(decoded.bad) != len(values):
        raise PluginError(
            f"the decoder {type(decoder).__name__} made {decoded.rows.num_rows:,} rows and {len(decoded.bad):,} reasons of {len(values):,}",
            hint="it returns a row or a reason for each message",
        )
    return decoded


def _one_by_one(values: pa.BinaryArray, decoder: Decoder) -> Decoded:
    tables, bad = [], dict[int, str]()
    for place in range(len(values)):
        try:
            one = decoder.decode(values.slice(place, 1))
        except Exception as error:  # noqa: BLE001 - as above: the message is set aside with what the decoder said
            bad[place] = f"{type(error).__name__}: {error}"[:200]
            continue
        tables.append(one.rows)
        if one.bad:
            bad[place] = next(iter(one.bad.values()))
    return Decoded(pa.concat_tables([one for one in tables if one.num_rows], promote_options="permissive") if tables else pa.table({}), bad)


def _refused(value: pa.Scalar, max_message: int) -> str:
    if not value.is_valid:
        return "it has no content (a tombstone)"
    return f"it has {len(value.as_py()):,} bytes, more than max_message = {max_message:,}"


def _with_places(rows: pa.Table, messages: pa.Table) -> pa.Table:
    columns = dict(zip(rows.column_names, rows.columns, strict=True))
    columns |= {PARTITION: messages.column("partition"), OFFSET: messages.column("offset")}
    for name, column in ((AT, messages.column("at")), (KEY, _texts(messages.column("key")))):
        if column.null_count < len(column):
            columns[name] = column
    return pa.table(columns)


def _set_aside(messages: pa.Table, reasons: dict[int, str]) -> pa.Table:
    places = sorted(reasons)
    bad = messages.take(pa.array(places, pa.int64()))
    raw = pc.binary_slice(bad.column("value"), 0, _MOST_KEPT_BYTES)
    columns = {PARTITION: bad.column("partition"), OFFSET: bad.column("offset"), AT: bad.column("at"), KEY: _texts(bad.column("key"))}
    return pa.table({**columns, REASON: pa.array([reasons[place] for place in places], pa.string()), RAW: raw})


def _texts(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return keys as text; one that is none is spelled as `0x` and its bytes."""
    if keys.null_count == len(keys):
        return keys.cast(pa.string())
    try:
        return keys.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.chunked_array([[None if key is None else _spelled(key) for key in keys.to_pylist()]], pa.string())


def _spelled(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return f"0x{key.hex()}"


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
