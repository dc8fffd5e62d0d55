"""Telling others of answers, off the road that answers take: a bounded queue, a thread of its own, and a count of what had no room.

The journal is told there as well: an answer never waits for the disk.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from deepseek.serving.journal.records import Unanswered

if TYPE_CHECKING:
    import pyarrow as pa

    from deepseek.serving.journal import Answered, Journal
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


class Observers:
    """Hands answers on to observers without ever keeping an answer waiting.

    Args:
        observers: Who is told.
        metrics: Counts what was dropped because the queue was full, and what observers raised.
        journal: Where answers are written too; closed with the observers.

    Attributes:
        wanted: Whether anybody is told.
    """

    def __init__(self, observers: Sequence[Observer], metrics: Metrics, *, journal: Journal | None = None) -> None:
        self._observers, self.journal = tuple(observers), journal
        self.wanted = bool(self._observers) or journal is not None
        self._unwritten = metrics.cell("deepseek_journal_dropped_total")
        self._dropped = metrics.cell("deepseek_observer_dropped_total")
        self._failures = metrics.cell("deepseek_observer_failures_total")
        self._queue: queue.Queue[Answered | Unanswered | None] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._work, name="deepseek-observers", daemon=True)
        if self.wanted:
            self._thread.start()

    def tell(self, told: Answered | Unanswered) -> None:
        """Tell of a request, or count that there was no room; who asks `wanted` first saves making what nobody reads."""
        if self.wanted:
            try:
                self._queue.put_nowait(told)
            except queue.Full:
                self._dropped.add()

    def _work(self) -> None:
        while (told := self._queue.get()) is not None:
            if self.journal is not None and not self._written(self.journal, told):
                self._unwritten.add()
            if isinstance(told, Unanswered) or told.shadow:
                continue  # no client was given any of it
            for observer in self._observers:
                try:
                    observer.on_answer(f"{told.model}@{told.version}", told.rows, told.answers, told.ids)
                except Exception:  # an observer is foreign code: serving goes on
                    self._failures.add()
                    log.exception("an observer failed")

    def _written(self, journal: Journal, told: Answered | Unanswered) -> bool:
        try:
            return journal.answers(told)
        except Exception:  # rows are as clients and models made them: what cannot be written costs itself, never those that follow
            log.exception("answers of %s could not be written to the journal", told.model)
            return False

    def close(self, timeout_s: float = 5.0) -> None:
        """Hand on what waits, and stop; an observer that hangs is not waited for.

        Args:
            timeout_s: How long that may take.
        """
        if self.wanted:
            end = time.monotonic() + timeout_s
            try:
                self._queue.put(None, timeout=timeout_s)
            except queue.Full:
                log.warning("an observer has not finished in %g s and is left alone", timeout_s)
            self._thread.join(max(end - time.monotonic(), 0.0))
        if self.journal is not None:
            self.journal.close()
