"""The recorder's life beside a server: begun before the workers, begun again when it dies, and the last to stop."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from deepseek.recipe.sections import ServeSection
from deepseek.serving.state import State

log = logging.getLogger("deepseek.serving")

POLL_S = 0.2
PAUSES_S = (0.0, 1.0, 5.0, 15.0)
"""Seconds before a recorder is begun again, by how often in a row one ended at once; answers go on meanwhile."""
LIVED_S = 30.0
"""One that lived so long did not end at once."""


class RecorderKeeper:
    """Keeps a recorder's process running while it is entered.

    Args:
        state: The server's folder.
        settings: How models are served.
        plugins: The plugins that ways of alarm need.
    """

    def __init__(self, state: State, settings: ServeSection, *, plugins: Sequence[str] = ()) -> None:
        self._state, self._settings, self._plugins = state, settings, list(plugins)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="deepseek-recorder-keeper", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = self._begun()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()
        assert self._process is not None
        if self._process.poll() is not None:  # it died last of all: what the workers wrote is read all the same
            self._begin_again()
        self._close(self._process)
        try:
            status = self._process.wait(self._settings.drain + 5)
        except subprocess.TimeoutExpired:
            log.warning("the recorder has not finished in time and is ended; what it has not read is read by the next server")
            self._process.kill()
            self._process.wait()
        else:
            if status:
                log.warning("the recorder ended with status %d; what it has not read is read by the next server", status)

    def _look_after(self) -> None:
        failures = 0
        while not self._stopping.wait(POLL_S):
            assert self._process is not None
            status = self._process.poll()
            if status is None:
                continue
            self._close(self._process)
            failures = failures + 1 if self._lived_s < LIVED_S else 0
            pause = PAUSES_S[min(max(failures - 1, 0), len(PAUSES_S) - 1)]
            log.warning("the recorder ended with status %d and is begun again%s", status, f" in {pause:g} s" if pause else "")
            if self._stopping.wait(pause):
                return
            self._begin_again()

    def _begin_again(self) -> None:
        try:
            self._process = self._begun()
        except OSError as error:  # memory is short, say: what waits is on disk, and the next look tries again
            log.warning("the recorder cannot be begun: %s", error)

    def _begun(self) -> subprocess.Popen[bytes]:
        self._began_at = time.monotonic()
        told = {"settings": self._settings.model_dump(mode="json"), "folder": str(self._state.folder), "plugins": self._plugins}
        process = subprocess.Popen([sys.executable, "-m", "deepseek.serving.recorder.process"], stdin=subprocess.PIPE, process_group=0)
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(told).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:  # it is dead already, which is seen at the next look
            log.warning("the recorder ended at once")
        return process

    @property
    def _lived_s(self) -> float:
        return time.monotonic() - self._began_at

    def _close(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        try:
            process.stdin.close()
        except BrokenPipeError:
            log.debug("the recorder had ended before it read everything")
