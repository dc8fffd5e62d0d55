"""Telling others of answers, off the road that answers take: a bounded queue, a thread of its own, and a count of what had no room."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from deepseek.serving.metrics import Metrics

log = logging.getLogger("deepseek.serving")

QUEUE = 1024


class Observer(Protocol):
    """Is told of every request that was answered: what monitoring and logging build on."""

    def on_answer(self, model: str, rows: pa.RecordBatch, answers: pa.Table, ids: Sequence[str], /) -> None:
        """Take notice of rows that were answered; called in a thread of its own, one call after the other.

        Args:
            model: The model's name and version, with an `@` between.
            rows: The rows as the model was given them.
            answers: Their answers, in the same order.
            ids: Their ids, by which outcomes can be joined later: the request's id, and `/PLACE` after it where it had several rows.
        """


class About(NamedTuple):
    """What else there is to say of answers.

    Attributes:
        arm: The arm of an experiment that the rows belong to.
        keys: Tickets of the rows' keys there.
        seconds: How long the answers took.
        shadow: Whether no client was given these answers.
    """

    arm: str | None = None
    keys: Sequence[str] | None = None
    seconds: float = 0.0
    shadow: bool = False


class Observers:
    """Hands answers on to observers without ever keeping an answer waiting.

    Args:
        observers: Who is told.
        metrics: Counts what was dropped because the queue was full, and what observers raised.
    """

    def __init__(self, observers: Sequence[Observer], metrics: Metrics) -> None:
        self._observers = tuple(observers)
        self._dropped = metrics.cell("deepseek_observer_dropped_total")
        self._failures = metrics.cell("deepseek_observer_failures_total")
        self._queue: queue.Queue[tuple[str, pa.RecordBatch, pa.Table, Sequence[str], About] | None] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._work, name="deepseek-observers", daemon=True)
        if self._observers:
            self._thread.start()

    def tell(self, model: str, rows: pa.RecordBatch, answers: pa.Table, *, ids: Sequence[str], about: About) -> None:
        """Tell of a request, or count that there was no room."""
        if self._observers:
            try:
                self._queue.put_nowait((model, rows, answers, ids, about))
            except queue.Full:
                self._dropped.add()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            *told, about = item
            for observer in () if about.shadow else self._observers:
                try:
                    observer.on_answer(*told)
                except Exception:  # an observer is foreign code: serving goes on
                    self._failures.add()
                    log.exception("an observer failed")

    def close(self, timeout_s: float = 5.0) -> None:
        """Hand on what waits, and stop."""
        if self._observers:
            self._queue.put(None)
            self._thread.join(timeout_s)
