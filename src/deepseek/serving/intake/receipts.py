"""From a request to a receipt: received to the disk, turned into rows, committed; or refused before anything is kept."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from deepseek.serving.http.problems import RefusedError
from deepseek.serving.http.request import Request
from deepseek.serving.intake.contents import Content, Given, Lander
from deepseek.serving.intake.index import Index, Outcome
from deepseek.serving.intake.requests import Contents
from deepseek.serving.intake.settings import IngestSettings
from deepseek.serving.intake.spool import SMALL_BYTES, Body, Spool

_THREADS = 4
_PIECE_BYTES = 1 << 20
_GROUP_CONTENTS = 200
_GROUP_BYTES = 16_000_000
_DISK_RETRY_S = 30

T = TypeVar("T")


@dataclass(frozen=True)
class Receipt:
    """What became of one content.

    Attributes:
        content: The content.
        outcome: Whether it is stored, and under which number.
    """

    content: Content
    outcome: Outcome


class Intake:
    """Takes contents in.

    Args:
        spool: Where bodies lie until they are in a part.
        index: Where contents are committed.
        lander: What turns bodies into rows.
        settings: Sizes and times.

    Attributes:
        arriving: How many requests are being received.
        arriving_bytes: What is reserved for them.
    """

    def __init__(self, spool: Path, index: Index, lander: Lander, *, settings: IngestSettings) -> None:
        self._spool, self._index, self._lander, self._settings = spool, index, lander, settings
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ingest-rows")
        self.arriving = self.arriving_bytes = 0

    def close(self) -> None:
        """End the threads, once they are done."""
        self._threads.shutdown()

    @property
    def waiting_bytes(self) -> int:
        """The bytes of contents that are in no part yet, those on their way among them."""
        return self._index.waiting_bytes + self.arriving_bytes

    async def take(self, topic: str, request: Request) -> tuple[list[Receipt], bool]:
        """Receive a request and commit what it brings; return what became of it, and whether it brought one content and no more.

        Raises:
            ClientGoneError: The client went before all had come; nothing is kept.
            RefusedError: The backlog is full (429, or as the settings say), the disk refuses (503), or the body is none that can be taken.
        """
        async with self._room(request) as reserve:
            try:
                body = await self._receive(request, reserve)
                return await self._take(topic, request, body)
            except (OSError, sqlite3.Error) as error:
                raise _disk_refuses(error) from error

    async def _take(self, topic: str, request: Request, body: Body) -> tuple[list[Receipt], bool]:
        kept: set[str | None] = set()
        try:
            contents = await self._run(Contents, topic, body, request.headers, attributes=self._settings.attributes)
            receipts = await self._commit_all(contents, body)
            kept = {receipt.content.spooled for receipt in receipts if receipt.outcome.state == "stored"}
        except asyncio.CancelledError:
            raise  # a commit may be on its way, and with it the body: the next server takes away what no content is in
        except BaseException:
            await self._run(body.discard)
            raise
        if body.path is not None and body.path.name not in kept:
            await self._run(body.discard)
        return receipts, contents.single

    @asynccontextmanager
    async def _room(self, request: Request) -> AsyncIterator[Callable[[int], None]]:
        """Give what reserves room for more bytes; refuse where there is none, before a body of known length is read."""
        length = request.headers.get(b"content-length", b"0")
        declared = int(length[:18]) if length.isdigit() else 0
        taken = 0

        def reserve(size: int) -> None:
            nonlocal taken
            more = max(0, size - taken)
            if more and self.waiting_bytes + more > self._settings.max_backlog:
                raise self._full(f"{self.waiting_bytes:,} bytes wait to be put into parts")
            taken += more
            self.arriving_bytes += more

        if self.arriving >= self._settings.max_requests:
            raise self._full(f"{self.arriving} requests are being received")
        if self._index.waiting + self.arriving >= self._settings.max_waiting:
            raise self._full(f"{self._index.waiting:,} contents wait to be put into parts")
        if declared <= self._settings.max_body:  # what is larger is refused for that
            reserve(declared)
        self.arriving += 1
        try:
            yield reserve
        finally:
            self.arriving -= 1
            self.arriving_bytes -= taken

    def _full(self, detail: str) -> RefusedError:
        again = str(max(1, math.ceil(self._settings.flush_interval)))
        return RefusedError(
            self._settings.full_status, detail, hint="send the same again later; nothing of it is kept", headers={"Retry-After": again}
        )

    async def _receive(self, request: Request, reserve: Callable[[int], None]) -> Body:
        spool, held, size = Spool(self._spool), bytearray(), 0
        settings = self._settings
        try:
            async for piece in request.pieces(limit=settings.max_body, pause_s=settings.max_pause, min_rate=settings.min_rate):
                size += len(piece)
                reserve(size)
                held += piece
                if len(held) >= _PIECE_BYTES:
                    await self._run(spool.write, bytes(held))
                    held.clear()
            if size <= SMALL_BYTES:
                spool.write(bytes(held))
                return spool.finish()
            await self._run(spool.write, bytes(held))
            return await self._run(spool.finish)
        except BaseException:
            spool.discard()
            raise

    async def _commit_all(self, contents: Contents, body: Body) -> list[Receipt]:
        """Commit the contents in groups, so that memory does not grow with their number; what is committed stays when a later one fails."""
        receipts: list[Receipt] = []
        given = iter(contents)
        while landed := await self._run(self._land, given, body):
            try:
                outcomes = await asyncio.shield(asyncio.wrap_future(self._index.add(landed)))
            except (OSError, sqlite3.Error):
                await self._run(self._forget, landed)
                raise
            await self._run(self._forget, [one for one, outcome in zip(landed, outcomes, strict=True) if outcome.state != "stored"])
            receipts += map(Receipt, landed, outcomes)
        return receipts

    def _land(self, given: Iterator[Given], whole: Body) -> list[Content]:
        """Turn the next contents into rows: some hundreds, or some megabytes."""
        landed: list[Content] = []
        size = 0
        try:
            for one in given:
                content = None
                try:
                    content = self._lander.land(one)
                finally:
                    kept = content is not None and one.body.path is not None and one.body.path.name == content.spooled
                    if one.body is not whole and not kept:
                        one.body.discard()
                landed.append(content)
                size += len(content.payload or b"")
                if len(landed) >= _GROUP_CONTENTS or size >= _GROUP_BYTES:
                    break
        except BaseException:
            self._forget(landed)
            raise
        return landed

    def _forget(self, contents: list[Content]) -> None:
        for content in contents:
            if content.spooled is not None:
                (self._spool / content.spooled).unlink(missing_ok=True)

    async def _run(self, call: Callable[..., T], *arguments: object, **named: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(*arguments, **named))


def _disk_refuses(error: Exception) -> RefusedError:
    words = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return RefusedError(
        503,
        f"the server's disk refuses: {words}",
        hint="send the same again later; what of it is stored stays stored once",
        headers={"Retry-After": str(_DISK_RETRY_S)},
    )
