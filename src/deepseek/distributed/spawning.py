"""What processes started from nothing must be kept from: the caller's script once more, and Ctrl-C in the midst of their imports.

And how their parent tells them to end. A terminal sends Ctrl-C to all processes of a job, whoever stops the one that he has started (a
supervisor, a container) to that alone, and the parent cannot know which it was. So it tells them in any case, by a signal of its own, and
who knows already is told nothing new: a second Ctrl-C would end him before he has saved.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType, ModuleType

TOLD: signal.Signals | None = getattr(signal, "SIGUSR1", None)
"""By which signal a parent tells a process to end; none on Windows."""
_known = threading.Event()


@contextmanager
def script_left_out() -> Iterator[None]:
    """Keep processes that the block starts from running the caller's script, where that would begin everything anew in each of them.

    A process that is spawned imports the main module of the one that started it. A script whose work stands under
    `if __name__ == "__main__":` is made for that. Of one that is not, each process would come to the same call and fail; and one that was
    read from standard input is nowhere to be found. What ranks do stands in modules, so that they need neither.
    """
    main = sys.modules["__main__"]
    if _can_be_imported(main):
        yield
        return
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _can_be_imported(main: ModuleType) -> bool:
    """Say whether a main module does its work only when it is the main module; one without a file, as in a notebook, is not imported."""
    file = getattr(main, "__file__", None)
    if file is None:
        return True
    try:
        return "__name__" in Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Keep Ctrl-C waiting while the block starts processes; they inherit that, until `take_interrupts`.

    Else each would print a traceback from the midst of its imports.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # or the first process started would bring it, which lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_interrupts() -> None:
    """Let Ctrl-C through in a process that was started with it kept waiting; one that has come meanwhile acts now."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def heed_parent() -> None:
    """Let this process be told to end by its parent, as by Ctrl-C; in the main thread."""
    if TOLD is not None:
        signal.signal(TOLD, _be_told)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _be_interrupted)


def heeds_parent() -> bool:
    """Say whether this process is told to end by its parent."""
    return TOLD is not None and signal.getsignal(TOLD) is _be_told


def know_of_end() -> None:
    """Note that this process knows that it is to end: what its parent tells it is nothing new from here on."""
    _known.set()


def _be_interrupted(number: int, frame: FrameType | None) -> None:
    know_of_end()
    signal.default_int_handler(number, frame)


def _be_told(number: int, frame: FrameType | None) -> None:
    if not _known.is_set():
        _be_interrupted(number, frame)
