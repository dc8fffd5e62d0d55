"""Several workers behind one socket: begun, replaced when they die, stopped together."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from deepseek.errors import RunError
from deepseek.processors import usable_cores
from deepseek.recipe.sections import ServeSection
from deepseek.serving.state import State

log = logging.getLogger("deepseek.serving")

POLL_S = 0.1
MOST_FAILURES = 3
"""Where no worker answers, so many may die before they do, in a row."""
PAUSES_S = (0.0, 1.0, 5.0, 15.0)
"""Seconds before a worker is begun again, by how many in a row died before they answered, or could not be begun."""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    ready: bool = False


class Supervisor:
    """Keeps workers running.

    The listening socket is this process's: connections wait in it while a worker is being replaced, and none is refused.

    Args:
        listening: The socket.
        settings: How models are served, and by how many workers.
        state: What is served.
        plugins: The plugins that bundles need.
    """

    def __init__(self, listening: socket.socket, settings: ServeSection, state: State, *, plugins: Sequence[str] = ()) -> None:
        self._listening, self._settings, self._state, self._plugins = listening, settings, state, tuple(plugins)
        self._workers: list[_Worker] = []
        self._stopping = self._again = False
        self._failures, self._again_at = 0, 0.0

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, then let the workers finish what they have accepted.

        Raises:
            RunError: Workers die before they answer.
        """
        with self._signals():
            try:
                while not self._stopping:
                    self._look_after()
                    if self._again:
                        self._again = False
                        self._state.want_again()
                    time.sleep(POLL_S)
            finally:
                self._stop()

    def _look_after(self) -> None:
        reports = self._state.reports()
        for worker in list(self._workers):
            status = worker.process.poll()
            if not worker.ready and worker.process.pid in reports:
                worker.ready, self._failures = True, 0
            if status is not None:
                self._bury(worker, status)
        while len(self._workers) < self._settings.workers and time.monotonic() >= self._again_at:
            try:
                self._begin()
            except OSError as error:  # memory is short, say: those that are there go on
                log.warning("a worker cannot be begun: %s", error)
                self._fail(f"the last could not be begun: {error}")

    def _bury(self, worker: _Worker, status: int) -> None:
        self._workers.remove(worker)
        self._state.forget(worker.process.pid)
        log.warning("worker %d ended with status %d and is replaced", worker.process.pid, status)
        if not worker.ready:
            self._fail(f"the last with status {status}")

    def _fail(self, how: str) -> None:
        """Count a worker that came to nothing; where none answers any more, that ends the server after a few."""
        self._failures += 1
        if self._failures >= MOST_FAILURES and not any(worker.ready for worker in self._workers):
            raise RunError(f"{self._failures} workers in a row ended before they answered, {how}")
        self._again_at = time.monotonic() + PAUSES_S[min(self._failures - 1, len(PAUSES_S) - 1)]

    def _begin(self) -> None:
        threads = max(1, usable_cores() // self._settings.workers)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        told = {
            "socket": self._listening.fileno(),
            "settings": self._settings.model_dump(mode="json"),
            "folder": str(self._state.folder),
            "plugins": self._plugins,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "deepseek.serving.worker"],
            stdin=subprocess.PIPE, pass_fds=[self._listening.fileno()], env=environment, process_group=0,
        )  # fmt: skip
        self._workers.append(_Worker(process))
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin as pipe:  # it is dead already, which is seen at the next look
            pipe.write(json.dumps(told).encode())

    def _stop(self) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        self._listening.close()
        end = time.monotonic() + self._settings.drain + 5
        for worker in self._workers:
            try:
                worker.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("worker %d has not finished in time and is ended", worker.process.pid)
                worker.process.kill()
                worker.process.wait()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(*_: object) -> None:
            self._stopping = True

        def again(*_: object) -> None:
            self._again = True  # another signal may come while the state is locked: a handler that waited for it would wait for ever

        wanted = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: again}
        before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
