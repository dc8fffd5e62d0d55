"""A thread for a model that nobody may have to wait for: it can hang, and the process ends all the same."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any

_LESS = 5
"""How much less urgent the work of a quiet thread is, in steps of `nice`. With far more it would be put off for long while it holds the
interpreter's lock, and the others would wait for it."""


class DaemonThread(Executor):
    """One thread that does calls in their order, and which the end of the process does not wait for.

    Args:
        name: The thread's name.
        quiet: Whether others go before it where processors are scarce; the threads that libraries begin from it are quiet with it.
    """

    def __init__(self, name: str, *, quiet: bool = False) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(quiet,), name=name, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do a call after those that wait."""
        future: Future[Any] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - the edge of a thread: who waits for the result is given the error
                future.set_exception(error)

        self._calls.put(call)
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """End the thread after the calls that wait."""
        self._calls.put(None)

    def _work(self, quiet: bool) -> None:
        if quiet:
            with contextlib.suppress(OSError):  # Linux takes a thread for a process here; elsewhere it stays as it is
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _LESS)
        while (call := self._calls.get()) is not None:
            call()
