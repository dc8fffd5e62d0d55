"""The few parts of HTTP that a server of models needs, over plain ASGI."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from os import urandom
from typing import Any

import orjson

from deepseek.serving.http import problems
from deepseek.serving.http.problems import ClientGoneError, RefusedError

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

JSON = b"application/json"
_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_SMALL_BYTES = 64 * 1024
_WRITING = orjson.OPT_SERIALIZE_NUMPY


class Request:
    """One request.

    Attributes:
        method: `GET`, `POST` …
        path: The path, decoded.
        headers: The headers; of those that came twice, the last.
        id: What the client calls the request (`X-Request-Id`), or a new id.
        misnamed: Whether what the client calls it is no id.
        model: The model that was asked; empty where none was.
        read: Whether the whole body was read.
        status: The status of the response, once it is sent.
    """

    __slots__ = ("_receive", "_send", "began", "headers", "id", "method", "misnamed", "model", "path", "read", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self._receive, self._send = receive, send
        given = self.headers.get(b"x-request-id")
        self.misnamed = given is not None and not _ID.fullmatch(given)
        self.id = request_id(given)
        self.began = asyncio.get_running_loop().time()
        self.model, self.status, self.read = "", 0, False

    @property
    def content_type(self) -> bytes:
        """The type of the body, without parameters, in small letters."""
        return self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()

    async def body(self, *, limit: int, timeout_s: float) -> bytes:
        """Return the whole body.

        Args:
            limit: Most bytes.
            timeout_s: How long the client may take to send it.

        Raises:
            RefusedError: It is too large (413), or too slow (408).
            ClientGoneError: The client has gone.
        """
        self._check_head(limit)
        message = at_once(self._receive)
        first = None if message is None else self._taken(message)
        if first is not None and self.read and len(first) <= limit:
            return first
        try:
            async with asyncio.timeout(timeout_s):
                return await self._read(limit, first)
        except TimeoutError:
            raise RefusedError(408, f"the body did not come within {timeout_s:g} s", headers={"Connection": "close"}) from None

    async def small_json(self, *, timeout_s: float) -> Any:
        """Return a short body as JSON; none at all is an empty object.

        Args:
            timeout_s: How long the client may take to send it.

        Raises:
            RefusedError: It is no JSON (400), too large (413), or too slow (408).
            ClientGoneError: The client has gone.
        """
        body = await self.body(limit=_SMALL_BYTES, timeout_s=timeout_s) or b"{}"
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RefusedError(400, f"the body is no JSON: {error}") from None

    async def pieces(self, *, limit: int, pause_s: float, min_rate: int) -> AsyncIterator[bytes]:
        """Yield the body as it comes; nothing more is taken from the socket until the caller asks for the next piece.

        Args:
            limit: Most bytes in all.
            pause_s: How long the client may send nothing.
            min_rate: The bytes a second that it must keep up, else a byte now and then would hold the connection for ever.

        Raises:
            RefusedError: It is too large (413), or too slow (408).
            ClientGoneError: The client has gone.
        """
        self._check_head(limit)
        loop = asyncio.get_running_loop()
        began, waited, size = loop.time(), 0.0, 0
        while not self.read:
            try:
                async with asyncio.timeout(pause_s):
                    piece = await self._piece()
            except TimeoutError:
                raise _too_slow(f"nothing came for {pause_s:g} s") from None
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            if loop.time() - began - waited > pause_s + size / min_rate:
                raise _too_slow(f"the body came with less than {min_rate:,} bytes a second")
            asked = loop.time()
            yield piece
            waited += loop.time() - asked  # what the caller does with a piece is not the client's time

    async def skip(self, *, limit: int, timeout_s: float) -> None:
        """Read and forget what is left of the body, so that the client gets to reading the response, where that is little and soon there.

        Args:
            limit: Most bytes.
            timeout_s: How long to wait for them.
        """
        left = limit
        try:
            async with asyncio.timeout(timeout_s):
                while not self.read and left > 0:
                    left -= len(await self._piece())
        except (TimeoutError, ClientGoneError):
            return

    def _check_head(self, limit: int) -> None:
        length = self.headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:18]) > limit:
            raise _too_large(limit)
        if self.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise RefusedError(415, "the body is compressed", hint="send it as it is, without Content-Encoding")

    async def _read(self, limit: int, first: bytes | None) -> bytes:
        parts = [await self._piece() if first is None else first]
        size = len(parts[0])
        while size <= limit and not self.read:
            parts.append(await self._piece())
            size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _piece(self) -> bytes:
        return self._taken(await self._receive())

    def _taken(self, message: Message) -> bytes:
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client has gone")
        self.read = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece

    def watch(self) -> Callable[[], bool]:
        """Return what says whether the client has gone; to be called once the body is read."""
        return self._gone

    def _gone(self) -> bool:
        return at_once(self._receive) is not None

    async def answer(self, status: int, body: bytes, media_type: bytes = JSON, *, headers: Headers = ()) -> None:
        """Send a response."""
        self.status = status
        sent = [
            (b"content-type", media_type),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", self.id.encode()),
            (b"x-content-type-options", b"nosniff"),
            *headers,
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": sent})
        await self._send({"type": "http.response.body", "body": body})

    async def answer_json(self, status: int, value: Any, media_type: bytes = JSON) -> None:
        """Send a response of JSON."""
        await self.answer(status, orjson.dumps(value, option=_WRITING), media_type)

    async def refuse(self, refused: RefusedError) -> None:
        """Send a problem document."""
        headers = [(name.lower().encode(), value.encode()) for name, value in refused.headers.items()]
        body = orjson.dumps(refused.document(self.id), option=_WRITING, default=str)
        await self.answer(refused.status, body, problems.MEDIA_TYPE, headers=headers)


def request_id(given: bytes | None) -> str:
    """Return what the client calls a request, or a new id where that is nothing or no id.

    Args:
        given: Its `X-Request-Id`.
    """
    return given.decode() if given is not None and _ID.fullmatch(given) else urandom(16).hex()


def at_once(receive: Receive) -> Message | None:
    """Return the server's next message if it is there already, else nothing.

    One step of the server's own coroutine, which is given up where it would wait. A task and a clock for each request would say the same at
    ten times the price.

    Args:
        receive: What the server gave the application.
    """
    step = receive().__await__()
    try:
        next(step)
    except StopIteration as done:
        message: Message = done.value
        return message
    step.close()
    return None


def _too_slow(detail: str) -> RefusedError:
    return RefusedError(408, detail, headers={"Connection": "close"})


def _too_large(limit: int) -> RefusedError:
    # what is still coming is not read: the connection ends with the response
    return RefusedError(
        413, f"the body is larger than {limit:,} bytes", hint="send the rows in several requests", headers={"Connection": "close"}
    )
