"""The thread that puts what came into parts."""

from __future__ import annotations

import logging
import threading

from deepseek.serving.intake.index import Index
from deepseek.serving.intake.parts import Parts
from deepseek.serving.metrics import Metrics

log = logging.getLogger("deepseek.ingest")


class Compactor:
    """Puts contents into parts, every so often and when it is told to.

    Args:
        index: What came.
        parts: Where it goes.
        metrics: Where parts and failures are counted.
        every_s: How often it looks.

    Attributes:
        failure: Why the last try failed; nothing where it did not.
    """

    def __init__(self, index: Index, parts: Parts, metrics: Metrics, *, every_s: float) -> None:
        self._index, self._parts, self._metrics, self._every_s = index, parts, metrics, every_s
        self.failure: str | None = None
        self._wake, self._stopping = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="ingest-parts", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Have what waits put into parts now: somebody was told that there is no room."""
        self._wake.set()

    def stop(self) -> None:
        """Put what waits into parts, and end."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait(self._every_s)
            self._wake.clear()
            ending = self._stopping
            self._write_all()
            if ending:
                return

    def _write_all(self) -> None:
        failure = None
        try:
            for topic in self._index.topics():
                failure = self._write(topic) or failure
        except Exception as error:  # noqa: BLE001 - the edge of the thread: the index cannot be asked now, and is asked again
            failure = self._noted(error)
        self.failure = failure

    def _write(self, topic: str) -> str | None:
        """Put what waits of a topic into parts; return what kept it from that, which is no reason for other topics to wait."""
        try:
            while self._parts.write(topic) is not None:
                self._metrics.cell("deepseek_ingest_parts_total", topic=topic).add()
        except Exception as error:  # noqa: BLE001 - the edge of the thread: what came is in the index, and is tried again
            return self._noted(error)
        return None

    def _noted(self, error: Exception) -> str:
        self._metrics.cell("deepseek_ingest_failures_total").add()
        log.exception("what came cannot be put into parts yet, and is kept")
        return f"{type(error).__name__}: {error}"
