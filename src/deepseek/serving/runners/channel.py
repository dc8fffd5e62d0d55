"""Messages between a worker and its runners: a byte that says what it is, the length, and the content, over a socket of this machine.

Rows and answers go as Arrow IPC streams, which are read without a copy: 20 microseconds for a row. Through the socket, ten megabytes of
pictures cost a few milliseconds, where the network needs seconds for them: shared memory would gain nothing to speak of.
"""

from __future__ import annotations

import socket
import struct
import time
from enum import IntEnum
from typing import Any

import orjson
import pyarrow as pa

_HEAD = struct.Struct("<BQ")
SMALL_BYTES = 64 * 1024
"""Contents up to this size are copied behind their head and sent by one call."""


class Kind(IntEnum):
    """What a message holds."""

    READY = 0
    ROWS = 1
    ANSWERS = 2
    ERROR = 3


class Channel:
    """One end of a connection between a worker and a runner; of both ends only one speaks at a time.

    Args:
        connection: The socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, kind: Kind, content: bytes | pa.Buffer = b"", *, timeout_s: float | None = None) -> None:
        """Send a message.

        Args:
            kind: What it holds.
            content: The content.
            timeout_s: How long the other end may take to receive it.

        Raises:
            TimeoutError: It took longer.
            OSError: The other end is gone.
        """
        self._connection.settimeout(timeout_s)
        view = memoryview(content)
        head = _HEAD.pack(kind, view.nbytes)
        if view.nbytes <= SMALL_BYTES:
            self._connection.sendall(b"".join((head, view)))
        else:
            self._connection.sendall(head)
            self._connection.sendall(view)

    def receive(self, *, timeout_s: float | None = None) -> tuple[Kind, memoryview]:
        """Return the next message.

        Raises:
            TimeoutError: It did not come in time.
            EOFError: The other end is gone.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        kind, size = _HEAD.unpack(self._exactly(_HEAD.size, end))
        return Kind(kind), self._exactly(size, end)

    def _exactly(self, size: int, end: float | None) -> memoryview:
        view = memoryview(bytearray(size))
        got = 0
        while got < size:
            if end is not None:
                self._connection.settimeout(max(1e-3, end - time.monotonic()))
            else:
                self._connection.settimeout(None)
            try:
                came = self._connection.recv_into(view[got:])
            except ConnectionResetError:
                came = 0
            if not came:
                raise EOFError
            got += came
        return view

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


def as_stream(rows: pa.RecordBatch | pa.Table) -> pa.Buffer:
    """Return rows as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write(rows)
    return sink.getvalue()


def read_rows(content: memoryview) -> pa.RecordBatch:
    """Return the rows of a stream that `as_stream` wrote, in the memory that it lies in."""
    with pa.ipc.open_stream(pa.py_buffer(content)) as stream:
        return stream.read_next_batch()


def read_table(content: memoryview) -> pa.Table:
    """Return the table of a stream that `as_stream` wrote, in the memory that it lies in."""
    with pa.ipc.open_stream(pa.py_buffer(content)) as stream:
        return stream.read_all()


def as_document(value: dict[str, Any]) -> bytes:
    """Return what a message says in words."""
    return orjson.dumps(value)


def read_document(content: memoryview) -> dict[str, Any]:
    """Return what `as_document` wrote."""
    found: dict[str, Any] = orjson.loads(content)
    return found
