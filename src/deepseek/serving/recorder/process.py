"""The process that reads a server's journal and feeds the watch, and whoever else consumes answers and outcomes."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

from deepseek.errors import DeepSeekError, RunError
from deepseek.recipe.sections import ServeSection
from deepseek.registry import load_plugin
from deepseek.serving.experiments.tally import ExperimentConsumer
from deepseek.serving.journal import Entry, JournalReader
from deepseek.serving.metrics import Metrics
from deepseek.serving.recorder.watching import WatchConsumer
from deepseek.serving.state import State

__all__ = ["Recorder", "WatchConsumer", "consumers_of"]

log = logging.getLogger("deepseek.serving")

POLL_S = 0.1
AT_ONCE = 1_000
MOST_WAITING = 20_000
"""So many entries wait in memory for a consumer that cannot take them now; then the reading waits for it too."""
AGAIN_S = (0.5, 1.0, 2.0, 5.0)
"""Seconds until such a consumer is asked again, the last over and over."""
_NICE = 5
"""Answers go before their bookkeeping where processors are short."""


class Consumer(Protocol):
    """What the recorder feeds; an error is logged and counted, and the other consumers go on."""

    def take(self, entries: Sequence[Entry]) -> None:
        """Take in entries, in order; after a kill some come again."""

    def tick(self, now: float) -> None:
        """Do what is due; called several times a second, also while nothing comes.

        Args:
            now: The time, in seconds since 1970.
        """


class Recorder:
    """Feeds consumers from the journal, and acknowledges what all of them have taken.

    A consumer that raises a `RunError` cannot take its entries now (a database is away, a disk full): it is asked again with the same
    entries while the others go on, and what it has not taken is not acknowledged, so that neither it nor a kill loses any. Any other error
    is a defect in what it makes of these entries: logged, counted, and passed over. Where the journal itself cannot be read or
    acknowledged, that is logged, counted for the consumer `journal`, and everything since the last acknowledgement is read again.

    Args:
        reader: The journal.
        consumers: By name.
        metrics: Where it counts.
    """

    def __init__(self, reader: JournalReader, consumers: Mapping[str, Consumer], metrics: Metrics) -> None:
        self._reader, self._metrics = reader, metrics
        self._fed = [_Fed(name, consumer, metrics) for name, consumer in consumers.items()]
        self._entries = metrics.cell("deepseek_recorder_entries_total")
        self._lag = metrics.cell("deepseek_recorder_lag_seconds")
        self._waiting = metrics.cell("deepseek_journal_bytes")
        self._damage = {name: metrics.cell("deepseek_journal_damaged_total", reason=name) for name in ("torn", "damaged")}
        self._counted = dict.fromkeys(self._damage, 0)
        self._unread = metrics.cell("deepseek_recorder_failures_total", consumer="journal")
        self._unread_times = 0
        metrics.cell("deepseek_recorders").set(1)

    def step(self) -> bool:
        """Read what has come, feed it, and let time pass for the consumers; return whether anything came."""
        entries = self._reader.read(AT_ONCE) if all(len(one.waiting) < MOST_WAITING for one in self._fed) else []
        now = time.time()
        for one in self._fed:
            one.feed(entries)
        if all(not one.waiting for one in self._fed):
            self._reader.acknowledge()
        for one in self._fed:
            one.tick(now)
        self._count(entries, now)
        return bool(entries)

    def run(self, stop: Event) -> None:
        """Go on until told to stop, and then until everything that was written is read, or cannot be."""
        while True:
            stopping = stop.is_set()  # asked for before reading: what was written until then is read
            try:
                came = self.step()
                self._unread_times = 0
            except (RunError, OSError) as error:
                stop.wait(self._begin_again(error))
                came = False
            if not came:
                if stopping:
                    return
                stop.wait(POLL_S)

    def _begin_again(self, error: Exception) -> float:
        """Go back to what was acknowledged; return the seconds until the journal is read again."""
        self._unread.add()
        pause = AGAIN_S[min(self._unread_times, len(AGAIN_S) - 1)]
        self._unread_times += 1
        log.error("the journal cannot be read and is asked again in %g s: %s", pause, error)
        self._reader.begin_again()
        for one in self._fed:
            one.waiting = []  # it was not acknowledged: it comes again
        return pause

    def close(self) -> None:
        """Let go of the journal and the consumers."""
        for one in self._fed:
            one.close()
        self._reader.close()

    def _count(self, entries: Sequence[Entry], now: float) -> None:
        self._entries.add(len(entries))
        if entries:
            self._lag.set(max(now - entries[-1].at, 0.0))
        self._waiting.set(self._reader.waiting_bytes)
        for name, cell in self._damage.items():
            found = getattr(self._reader, name)
            cell.add(found - self._counted[name])
            self._counted[name] = found


class _Fed:
    """A consumer and what it has not taken yet."""

    def __init__(self, name: str, consumer: Consumer, metrics: Metrics) -> None:
        self._name, self._consumer = name, consumer
        self._failures = metrics.cell("deepseek_recorder_failures_total", consumer=name)
        self.waiting: list[Entry] = []
        self._tries = 0
        self._again_at = 0.0

    def feed(self, entries: Sequence[Entry]) -> None:
        self.waiting += entries
        if not self.waiting or (self._tries and time.monotonic() < self._again_at):
            return
        try:
            self._consumer.take(self.waiting)
        except RunError as error:
            self._fail(error)
            return
        except Exception:  # consumers are guests here: what one makes of these entries must not stop the others
            self._failures.add()
            log.exception("%s could not use %d entries of the journal", self._name, len(self.waiting))
        self._tries, self.waiting = 0, []

    def tick(self, now: float) -> None:
        try:
            self._consumer.tick(now)
        except RunError as error:
            if not self._tries:
                self._fail(error)
        except Exception:  # as above
            self._failures.add()
            log.exception("%s failed", self._name)

    def close(self) -> None:
        close = getattr(self._consumer, "close", None)
        if close is not None:
            close()

    def _fail(self, error: RunError) -> None:
        self._failures.add()
        pause = AGAIN_S[min(self._tries, len(AGAIN_S) - 1)]
        self._tries += 1
        self._again_at = time.monotonic() + pause
        log.error("%s is asked again in %g s: %s", self._name, pause, error)


def consumers_of(state: State, settings: ServeSection, metrics: Metrics) -> dict[str, Consumer]:
    """Return what a server's recorder feeds, by name.

    Args:
        state: What is served.
        settings: How.
        metrics: Where consumers count.
    """
    return {"watch": WatchConsumer(state, metrics, everything=settings.watch), "experiments": ExperimentConsumer(state)}


class BackgroundRecorder:
    """A recorder in a thread of this process, for applications that run under another server.

    Args:
        state: What is served.
        settings: How.
        metrics: Where it counts.
    """

    def __init__(self, state: State, settings: ServeSection, metrics: Metrics) -> None:
        assert state.journal is not None
        self._recorder = Recorder(JournalReader(state.journal), consumers_of(state, settings, metrics), metrics)
        self._stop = Event()
        self._thread = Thread(target=self._recorder.run, args=(self._stop,), name="deepseek-recorder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Read what was written, and stop."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._recorder.close()


def run_recorder(state: State, settings: ServeSection, stop: Event, *, plugins: Sequence[str] = ()) -> None:
    """Read a server's journal until told to stop.

    Args:
        state: What is served.
        settings: How.
        stop: Set when everything that will be written is written.
        plugins: The plugins that ways of alarm need.

    Raises:
        RunError: Another process reads the journal.
    """
    for plugin in plugins:
        load_plugin(plugin, Path())
    assert state.journal is not None
    metrics = Metrics(state.folder, role="recorder")
    recorder = Recorder(JournalReader(state.journal), consumers_of(state, settings, metrics), metrics)
    log.info("recorder begins")
    try:
        recorder.run(stop)
    finally:
        recorder.close()


def main() -> int:
    """Run as the child of a server, which has written what to do to standard input and closes it when its workers have ended."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # whoever stops all processes of a service at once would stop this one before those whose answers it is to read
        signal.signal(number, signal.SIG_IGN)
    told: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s[%(process)d] %(message)s")
    os.nice(_NICE)
    stop = Event()
    Thread(target=_until_closed, args=(stop,), daemon=True).start()
    try:
        run_recorder(State(Path(told["folder"])), ServeSection(**told["settings"]), stop, plugins=told["plugins"])
    except DeepSeekError as error:
        log.error("%s", error)  # noqa: TRY400 - the message says it all
        return error.exit_code
    return 0


def _until_closed(stop: Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
