"""The parts of HTTP/1.1 that uvicorn leaves to a proxy: how long and how large a request's head may be, and problems as JSON."""

from __future__ import annotations

import asyncio

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from deepseek.serving import problems
from deepseek.serving.problems import RefusedError

LARGEST_HEAD_BYTES = 64 * 1024
LINGER_S = 1.0
"""How long a server that stops still takes requests on connections that it has accepted: one may be on its way at this moment."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a limit to the head of a request; a client that sends a byte now and then would hold it for ever."""

    head_timeout_s = 10.0
    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless the head has grown too large."""
        if self._timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD_BYTES and b"\r\n\r\n" not in data:
                self._refuse(431, f"the headers are larger than {LARGEST_HEAD_BYTES:,} bytes")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a head."""
        super().on_message_begin()
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        """Stop waiting; from here the application watches the time."""
        self._stop_waiting()
        super().on_headers_complete()
        if self._leaving:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Answer what is on its way, and close."""
        if self._leaving or (self.cycle is not None and not self.cycle.response_complete):
            super().shutdown()
        else:
            self._leaving = True
            self.loop.call_later(LINGER_S, self._leave)

    def _leave(self) -> None:
        if not self.transport.is_closing():
            self.shutdown()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, msg)

    def _wait_for_head(self) -> None:
        if self._timer is None:
            self._head_bytes = 0
            detail = f"no request came within {self.head_timeout_s:g} s"
            self._timer = self.loop.call_later(self.head_timeout_s, self._refuse, 408, detail)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, detail: str) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.write(_response(status, detail))
            self.transport.close()


def limited(head_timeout_s: float) -> type[LimitedProtocol]:
    """Return the protocol with a time-out of its own.

    Args:
        head_timeout_s: How long a client may take to send the head of a request.
    """
    return type("LimitedProtocol", (LimitedProtocol,), {"head_timeout_s": head_timeout_s})


def _response(status: int, detail: str) -> bytes:
    document = RefusedError(status, detail).document("")
    body = orjson.dumps(document)
    head = f"HTTP/1.1 {status} {document['title']}\r\ncontent-type: {problems.MEDIA_TYPE.decode()}\r\n"
    return f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
