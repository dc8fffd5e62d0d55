"""Ctrl-C and a polite kill: training ends at the next step, saves its state, and only then gives way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from deepseek.distributed import RankContext, largest_across
from deepseek.distributed.spawning import TOLD, heeds_parent, know_of_end


class Interruption:
    """Turns the first SIGINT (Ctrl-C), SIGTERM (a cluster taking its machine back) or word of a parent into a wish to stop, for a block.

    A context manager. A second signal acts at once, as it would have without this. A signal that is ignored (as in a shell's background
    jobs, or SIGTERM by ranks whose parent tells them all) stays so. Python delivers signals to the main thread only: in any other,
    nothing is changed.

    Args:
        stop: Is told once, with the reason; it must only take note, since it runs in the midst of whatever was being done.

    Attributes:
        signal: The signal that came, or nothing; what a parent says counts as SIGINT.
    """

    def __init__(self, stop: Callable[[str], None]) -> None:
        self.signal: signal.Signals | None = None
        self._stop = stop
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
            heeded += [TOLD] if TOLD is not None and heeds_parent() else []
            self._before = {number: signal.signal(number, self._take) for number in heeded}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def _take(self, number: int, frame: FrameType | None) -> None:
        know_of_end()
        self.signal = signal.SIGINT if number == TOLD else signal.Signals(number)
        self._restore()
        self._stop("interrupted")

    def _restore(self) -> None:
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # none: one that was not set from Python


def signal_of_any(interruption: Interruption, ranks: RankContext) -> int:
    """Return the signal that has come to any rank, on every rank, or 0: a machine that is taken back tells its own ranks alone.

    Args:
        interruption: What has come to this one.
        ranks: This process's place in the job.
    """
    return largest_across(interruption.signal or 0, ranks)


def act_on(number: int, ranks: RankContext) -> None:
    """Do now what a signal asked for, on all ranks, when each has saved what it has to: nobody says that it was saved before it was.

    Args:
        number: The signal.
        ranks: This process's place in the job.

    Raises:
        KeyboardInterrupt: It was SIGINT.
        SystemExit: It was another; with the status that shells give a process ended by it.
    """
    know_of_end()
    largest_across(number, ranks)  # a rank that could not save does not come here, and the others are ended with its error
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
