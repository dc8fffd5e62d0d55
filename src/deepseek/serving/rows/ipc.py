"""Reading Arrow streams from strangers: nothing compressed, nothing unchecked."""

from __future__ import annotations

import struct

import pyarrow as pa

from deepseek.serving.http.problems import RefusedError

_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3
_DAMAGE = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError, struct.error, IndexError)
_HINT = "send an uncompressed Arrow IPC stream of plain columns: pyarrow.ipc.new_stream(sink, table.schema)"


def read_stream(body: bytes, *, max_rows: int) -> pa.RecordBatch:
    """Return the rows of an Arrow IPC stream.

    The lengths inside a stream are its writer's word: everything is validated before a value is touched, and compressed buffers, which
    could grow to any size, are refused unread.

    Args:
        body: The stream.
        max_rows: Most rows that it may have.

    Raises:
        RefusedError: It is no such stream.
    """
    try:
        _check_messages(body, max_rows)
        with pa.ipc.open_stream(body) as stream:
            table = stream.read_all()
        table.validate(full=True)
        columns = [column.combine_chunks() if column.num_chunks != 1 else column.chunk(0) for column in table.columns]
    except _DAMAGE as error:
        raise _unreadable(error) from None
    return pa.RecordBatch.from_arrays(columns, names=table.schema.names)


def check_messages(body: bytes | pa.Buffer, *, max_rows: int) -> None:
    """See that an Arrow IPC stream has no compressed buffers, no dictionaries and not too many rows, before anything of it is read.

    Args:
        body: The stream.
        max_rows: Most rows that it may have.

    Raises:
        RefusedError: It has, or is no such stream.
    """
    try:
        _check_messages(body, max_rows)
    except _DAMAGE as error:
        raise _unreadable(error) from None


def _check_messages(body: bytes | pa.Buffer, max_rows: int) -> None:
    rows = 0
    for message in pa.ipc.MessageReader.open_stream(body):
        rows += _rows_of(message.metadata.to_pybytes())
        if rows > max_rows:
            raise RefusedError(413, f"the stream has more than {max_rows:,} rows", hint="send them in several requests")


def _unreadable(error: BaseException) -> RefusedError:
    return RefusedError(400, f"the body is no Arrow stream that can be read: {str(error)[:200]}", hint=_HINT)


def _rows_of(metadata: bytes) -> int:
    """Return how many rows a message says it has; raises `ValueError` where it is compressed or of another kind.

    The metadata is a FlatBuffers table: `Message {version, header_type, header}`, whose header is a `RecordBatch {length, nodes, buffers,
    compression}` (https://github.com/apache/arrow/blob/main/format/Message.fbs).
    """
    message = struct.unpack_from("<I", metadata, 0)[0]
    kind = metadata[message + _field(metadata, message, 1)]
    if kind == _SCHEMA:
        return 0
    if kind != _RECORDS:
        raise ValueError("it has dictionaries" if kind == _DICTIONARY else f"it has a message of the kind {kind}")
    place = message + _field(metadata, message, 2)
    records = place + struct.unpack_from("<I", metadata, place)[0]
    if _field(metadata, records, 3):
        raise ValueError("it is compressed")
    length = _field(metadata, records, 0)
    rows: int = struct.unpack_from("<q", metadata, records + length)[0] if length else 0
    if rows < 0:
        raise ValueError(f"it says that it has {rows} rows")
    return rows


def _field(buffer: bytes, table: int, number: int) -> int:
    """Return where a field stands, from the table's start; 0 where it is absent."""
    if not 0 <= table < len(buffer):
        raise ValueError("its metadata lead out of the message")
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    if not 0 <= vtable < len(buffer):
        raise ValueError("its metadata lead out of the message")
    size = struct.unpack_from("<H", buffer, vtable)[0]
    place = 4 + 2 * number
    return int(struct.unpack_from("<H", buffer, vtable + place)[0]) if place + 2 <= size else 0
