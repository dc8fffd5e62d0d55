"""Requests that come at the same time, answered together: one pass through the network for many rows, each answer to its own request."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from deepseek.errors import DataError
from deepseek.recipe.sections import BatchingSection
from deepseek.serving.http.problems import ClientGoneError, RefusedError, RowsLostError

Answer = Callable[[pa.RecordBatch], pa.Table]


class Watch(Protocol):
    """Is told what the batcher does."""

    def batch(self, rows: int, seconds: float) -> None:
        """Rows went through the network."""

    def dropped(self, reason: str) -> None:
        """A request left the queue unanswered."""

    def queued(self, rows: int) -> None:
        """So many rows wait now."""


@dataclass
class _Entry:
    batch: pa.RecordBatch
    deadline: float
    gone: Callable[[], bool]
    came: float
    future: asyncio.Future[pa.Table] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """Gathers rows and answers them in threads of its own, so that the event loop never waits.

    While the network is busy, rows gather by themselves; when it is free, the oldest request waits for others `max_wait_ms` at most. A
    request whose deadline has passed or whose client has gone is dropped before it costs anything. More than `max_queue` waiting rows are
    refused at once, which keeps the wait of those that are accepted short.

    Args:
        answer: Answers an Arrow batch, row by row in order.
        settings: Sizes and times.
        watch: Is told what happens.
        alone: Answers every request by itself, for models whose preparation looks at neighbouring rows.
        lanes: How many batches are answered at the same time.
        thread: Where the network runs, instead of in threads of its own.
    """

    def __init__(
        self,
        answer: Answer,
        settings: BatchingSection,
        watch: Watch,
        *,
        alone: bool = False,
        lanes: int = 1,
        thread: Executor | None = None,
    ) -> None:
        self._answer, self._settings, self._watch, self._alone, self._lanes = answer, settings, watch, alone, lanes
        self._queue: deque[_Entry] = deque()
        self._rows = 0
        self._running = 0
        self._begins = self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._row_seconds = 0.0
        self._threads = thread or ThreadPoolExecutor(lanes, thread_name_prefix="deepseek-model")

    @property
    def waiting(self) -> int:
        """How many rows wait."""
        return self._rows

    @property
    def running(self) -> int:
        """How many batches are being answered."""
        return self._running

    @property
    def full(self) -> RefusedError | None:
        """Why not even a single row has room now, or nothing where one has."""
        return self._full(1) if self._rows >= self._settings.max_queue else None

    async def submit(self, batch: pa.RecordBatch, *, deadline: float, gone: Callable[[], bool]) -> pa.Table:
        """Return the answers of a request's rows, in their order.

        Args:
            batch: The rows.
            deadline: When the client has no more use for the answer, on the event loop's clock.
            gone: Says whether the client has closed its connection.

        Raises:
            RefusedError: The queue is full (429), the request is larger than it (413), or the deadline passed (504).
            ClientGoneError: The client went before its turn came.
            DataError: A value cannot be prepared.
        """
        if self._rows + batch.num_rows > self._settings.max_queue:
            raise self._full(batch.num_rows)
        loop = asyncio.get_running_loop()
        entry = _Entry(batch, deadline, gone, loop.time())
        self._queue.append(entry)
        self._count(batch.num_rows)
        self._wake()
        timer = loop.call_at(deadline, _expire, entry)
        try:
            return await entry.future
        finally:
            timer.cancel()

    def _full(self, rows: int) -> RefusedError:
        most = self._settings.max_queue
        if rows > most:
            return RefusedError(413, f"the request has {rows:,} rows; the queue takes {most:,}", hint="send them in several requests")
        seconds = max(1, round(self._rows * self._row_seconds))
        return RefusedError(
            429, f"{self._rows:,} rows wait, at most {most:,} may", hint="try again later", headers={"Retry-After": str(seconds)}
        )

    def _count(self, rows: int) -> None:
        self._rows += rows
        self._watch.queued(self._rows)

    def _wake(self) -> None:
        if self._begins or self._running >= self._lanes or not self._queue:
            return
        loop = asyncio.get_running_loop()
        due = self._queue[0].came + self._settings.max_wait_ms / 1000
        if self._rows >= self._settings.max_size or due <= loop.time() or self._alone or self._closing:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._begins = True
            loop.call_soon(self._begin)  # after the requests that came at the same time
        elif self._timer is None:
            self._timer = loop.call_at(due, self._time_out)

    def _time_out(self) -> None:
        self._timer = None
        self._wake()

    def _begin(self) -> None:
        self._begins = False
        taken = self._take()
        if taken:
            self._running += 1
            task = asyncio.get_running_loop().create_task(self._run(taken))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._wake()

    async def _run(self, taken: list[_Entry]) -> None:
        try:
            await self._answer_together(taken)
        finally:
            self._running -= 1
            self._wake()

    def _take(self) -> list[_Entry]:
        """Return the next requests: as many as fit, at least one; those that nobody waits for are dropped on the way."""
        taken: list[_Entry] = []
        rows, now = 0, asyncio.get_running_loop().time()
        while self._queue and (not taken or (rows + self._queue[0].batch.num_rows <= self._settings.max_size and not self._alone)):
            entry = self._queue.popleft()
            self._count(-entry.batch.num_rows)
            if entry.future.done():  # the request was given up while it waited
                self._watch.dropped("deadline" if entry.deadline <= now else "cancelled")
            elif entry.gone():
                self._watch.dropped("disconnected")
                entry.future.set_exception(ClientGoneError("the client has gone"))
            elif entry.deadline <= now:
                self._watch.dropped("deadline")
                _expire(entry)
            else:
                taken.append(entry)
                rows += entry.batch.num_rows
        return taken

    async def _answer_together(self, taken: list[_Entry]) -> None:
        loop = asyncio.get_running_loop()
        batch = taken[0].batch if len(taken) == 1 else pa.concat_batches([entry.batch for entry in taken])
        began = time.perf_counter()
        lost: dict[int, str] = {}
        try:
            answers = await loop.run_in_executor(self._threads, self._in_pieces, batch)
        except RowsLostError as error:
            answers, lost = error.answers, error.lost
        except DataError as error:
            await self._find_fault(taken, error)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the requests, and the next ones are to be answered
            for entry in taken:
                _give(entry, error)
            return
        self._time(batch.num_rows, time.perf_counter() - began)
        _share(taken, answers, lost)

    async def _find_fault(self, taken: list[_Entry], error: DataError) -> None:
        """Answer every request by itself, as one of them has a value that cannot be prepared."""
        if len(taken) == 1:
            _give(taken[0], error)
            return
        for entry in taken:
            await self._answer_together([entry])

    def _in_pieces(self, batch: pa.RecordBatch) -> pa.Table:
        size = self._settings.max_size
        if batch.num_rows <= size or self._alone:
            return self._answer(batch)
        answers, lost = [], dict[int, str]()
        for start in range(0, batch.num_rows, size):
            try:
                answers.append(self._answer(batch.slice(start, size)))
            except RowsLostError as error:
                answers.append(error.answers)
                lost |= {start + row: why for row, why in error.lost.items()}
        whole = pa.concat_tables(answers)
        if lost:
            raise RowsLostError(lost, whole)
        return whole

    def _time(self, rows: int, seconds: float) -> None:
        self._watch.batch(rows, seconds)
        self._row_seconds = 0.9 * self._row_seconds + 0.1 * seconds / max(rows, 1)

    async def close(self) -> None:
        """Wait until everything accepted is answered, which now waits for no more rows, and end the threads."""
        self._closing = True
        self._wake()
        while self._queue or self._running:
            await asyncio.sleep(0.005)
        self._threads.shutdown(wait=False)


def _expire(entry: _Entry) -> None:
    _give(entry, RefusedError(504, "the time that the request may take has passed", hint="send fewer rows, or allow more time"))


def _share(taken: list[_Entry], answers: pa.Table, lost: Mapping[int, str]) -> None:
    """Give each request the answers of its own rows, in their order; `lost` names the rows that have none."""
    start = place = 0
    for entry in taken:
        end = start + entry.batch.num_rows
        own = {row - start: lost[row] for row in range(start, end) if row in lost} if lost else {}
        part = answers.slice(place, end - start - len(own))
        _give(entry, RowsLostError(own, part) if own else part)
        start, place = end, place + part.num_rows


def _give(entry: _Entry, result: pa.Table | Exception) -> None:
    if entry.future.done():
        return
    if isinstance(result, Exception):
        entry.future.set_exception(result)
    else:
        entry.future.set_result(result)
