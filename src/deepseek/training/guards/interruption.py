"""Ctrl-C and a polite kill: training ends at the next step, saves its state, and only then gives way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self


class Interruption:
    """Turns the first SIGINT (Ctrl-C) or SIGTERM (a cluster taking its machine back) of a block into a wish to stop.

    A context manager. A second signal acts at once, as it would have without this. A signal that is ignored (as in a shell's background
    jobs) stays so. Python delivers signals to the main thread only: in any other, nothing is changed.

    Args:
        stop: Is told once, with the reason; it must only take note, since it runs in the midst of whatever was being done.
        terminable: Whether SIGTERM is heeded too. One rank of several leaves it to its parent, which tells all ranks.

    Attributes:
        signal: The signal that came, or nothing.
    """

    def __init__(self, stop: Callable[[str], None], *, terminable: bool = True) -> None:
        self.signal: signal.Signals | None = None
        self._stop = stop
        self._signals = (signal.SIGINT, signal.SIGTERM) if terminable else (signal.SIGINT,)
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in self._signals if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._take) for number in heeded}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()
        self._stop("interrupted")

    def _restore(self) -> None:
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # none: one that was not set from Python


def act_on(number: int) -> None:
    """Do now what a signal asked for.

    Raises:
        KeyboardInterrupt: It was SIGINT.
        SystemExit: It was another; with the status that shells give a process ended by it.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
