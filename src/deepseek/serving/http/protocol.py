"""The parts of HTTP/1.1 that uvicorn leaves to a proxy: how long and how large a request's head may be, and problems as JSON."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from deepseek.serving.http import problems
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.http.request import request_id

Shed = Callable[[bytes], RefusedError | None]

LARGEST_HEAD_BYTES = 64 * 1024
_UNUSUAL = re.compile(rb"\r\n(?:expect|transfer-encoding|upgrade|connection:(?![ \t]*keep-alive[ \t]*(?:\r|$)))")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*(?=\r|$)")
_NAME = re.compile(rb"\r\nx-request-id:[ \t]*([^\r]*)", re.IGNORECASE)
LINGER_S = 1.0
"""How long a server that stops still takes requests on connections that it has accepted: one may be on its way at this moment."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a limit to the head of a request; a client that sends a byte now and then would hold it for ever."""

    head_timeout_s = 10.0
    shed: Shed = staticmethod(lambda _: None)
    _shedding: RefusedError | None = None
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
        if not self._refuse_whole(data):
            super().data_received(data)

    def _refuse_whole(self, data: bytes) -> bool:
        """Refuse what there is no room for without reading it, where the bytes are one whole and usual request; say whether that was so.

        A server that is asked for ten times what it can do spends most of its time on saying no: the parser is left out.
        """
        if not data.startswith(b"POST ") or not self._is_idle(len(data)):
            return False
        head = data.partition(b"\r\n\r\n")[0]
        line, _, rest = head.partition(b"\r\n")
        path, _, version = line[5:].partition(b" ")
        rest = b"\r\n" + rest.lower()
        lengths = _LENGTH.findall(rest)
        whole = len(lengths) == 1 and rest.count(b"content-length") == 1 and int(lengths[0]) == len(data) - len(head) - 4
        if not whole or version != b"HTTP/1.1" or _UNUSUAL.search(rest):
            return False
        refused = self.shed(path)
        if refused is None:
            return False
        named = _NAME.search(head)
        self._answer_shed(refused, named.group(1).strip() if named else None, keep=True)
        return True

    def _is_idle(self, came: int) -> bool:
        """Whether bytes that have come begin a request, and nothing else is under way on the connection."""
        if self._leaving or self.pipeline or self.flow.write_paused or (self._timer is not None and self._head_bytes != came):
            return False
        return self.cycle is None or (self.cycle.response_complete and not self.cycle.more_body)

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a head."""
        super().on_message_begin()
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        """Stop waiting; from here the application watches the time. What it has no room for goes no further."""
        self._shedding = self.shed(self.url) if self._may_shed() else None
        if self._shedding is not None:
            return
        self._stop_waiting()
        super().on_headers_complete()
        if self._leaving:
            self.cycle.keep_alive = False

    def _may_shed(self) -> bool:
        """Whether a request can be refused here: it has its turn, its body is small and announced, and the client takes its answers."""
        if self._leaving or self.pipeline or self.flow.write_paused or self.expect_100_continue:
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        return length.isdigit() and int(length[:9]) <= LARGEST_HEAD_BYTES

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, unless its request is refused."""
        if self._shedding is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a request; one that is refused gets its answer now."""
        refused, self._shedding = self._shedding, None
        if refused is None:
            super().on_message_complete()
            return
        given = next((value for name, value in self.headers if name == b"x-request-id"), None)
        self._answer_shed(refused, given, keep=self.parser.should_keep_alive())

    def _answer_shed(self, refused: RefusedError, given: bytes | None, *, keep: bool) -> None:
        self._stop_waiting()
        self.transport.write(_refusal(refused, request_id(given), keep=keep))
        self.server_state.total_requests += 1
        self._unset_keepalive_if_required()
        if keep:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        else:
            self.transport.close()

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


def limited(head_timeout_s: float, *, shed: Shed = lambda _: None) -> type[LimitedProtocol]:
    """Return the protocol with settings of its own.

    Args:
        head_timeout_s: How long a client may take to send the head of a request.
        shed: Is given the path of a request, and says why it is refused at once, or nothing; refuses none where not given.
    """
    return type("LimitedProtocol", (LimitedProtocol,), {"head_timeout_s": head_timeout_s, "shed": staticmethod(shed)})


def _response(status: int, detail: str) -> bytes:
    return _refusal(RefusedError(status, detail), "", keep=False)


def _refusal(refused: RefusedError, request: str, *, keep: bool) -> bytes:
    document = refused.document(request)
    body = orjson.dumps(document)
    more = "".join(f"{name.lower()}: {value}\r\n" for name, value in refused.headers.items())
    named = f"x-request-id: {request}\r\n" if request else ""
    head = f"HTTP/1.1 {refused.status} {document['title']}\r\ncontent-type: {problems.MEDIA_TYPE.decode()}\r\n{more}{named}"
    end = "" if keep else "connection: close\r\n"
    return f"{head}content-length: {len(body)}\r\nx-content-type-options: nosniff\r\n{end}\r\n".encode() + body
