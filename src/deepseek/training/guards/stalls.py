"""Training that does not move is reported with what it waits for: a thread looks on, and the steps pay nothing."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepseek.training.trainer import Trainer

_LOOKS = 8
"""How often the thread looks within the time after which it reports."""
_MOST_S = 10.0
_PLACES = {
    "data/loader.py": "data",
    "data/prepared": "data",
    "data/augment": "random changes of a batch",
    "distributed/sync.py": "the other ranks",
    "distributed/ranks.py": "the other ranks",
    "distributed/exchange": "the other ranks",
    "training/communication.py": "the other ranks",
    "training/evaluation.py": "validation",
    "training/checkpoints/keeper.py": "a checkpoint to be written",
    "training/checkpoints/files.py": "a checkpoint to be written",
    "training/decisions.py": "settings to be measured",
    "training/autotune.py": "settings to be measured",
    "training/compiled": "the step",
    "training/step.py": "the step",
    "training/callbacks": "a callback",
}
"""By where the innermost line of this package stands, what is waited for."""
_PACKAGE = Path(__file__).resolve().parents[2]


@contextmanager
def reported_stalls(trainer: Trainer) -> Iterator[None]:
    """Report, while the block runs in this thread, when neither a step nor a batch nor a validation has been made for a time.

    Of several ranks it is `deepseek.distributed.watch` that tells which one hangs: of themselves the others know only that they wait.
    """
    limit_s, ranks = trainer.settings.stall_s, trainer.ranks
    if limit_s is None or not (ranks.is_single or ranks.store is None):
        yield
        return
    done, thread = threading.Event(), threading.get_ident()
    watch = threading.Thread(target=_watch, args=(trainer, limit_s, thread, done), name="deepseek-stalls", daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()


def waiting_for(frame: FrameType | None) -> tuple[str, str]:
    """Return what a thread waits for, in words, and the line of this package at which it stands.

    Args:
        frame: The innermost frame of the thread.
    """
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_PACKAGE):
            name = path.relative_to(_PACKAGE).as_posix()
            what = next((words for place, words in _PLACES.items() if name.startswith(place)), None)
            if what is not None:
                return what, f"{name}:{frame.f_lineno}, {frame.f_code.co_name}"
        frame = frame.f_back
    return "something outside of the steps", "no line of this package"


def _watch(trainer: Trainer, limit_s: float, thread: int, done: threading.Event) -> None:
    seen, since, due = _moved(trainer), time.monotonic(), limit_s
    while not done.wait(min(limit_s / _LOOKS, _MOST_S)):
        now = _moved(trainer)
        if now != seen:
            seen, since, due = now, time.monotonic(), limit_s
            continue
        still_s = time.monotonic() - since
        if still_s < due:
            continue
        due *= 2  # said again when it has lasted twice as long
        what, line = waiting_for(sys._current_frames().get(thread))  # noqa: SLF001 - the documented way to see where a thread stands
        said = f"nothing has moved for {still_s:.0f} s after step {trainer.state.step}: training waits for {what} ({line})"
        trainer.remarks.say("stall", said, step=trainer.state.step, waits_for=what, line=line, seconds=round(still_s, 3))


def _moved(trainer: Trainer) -> tuple[int, int, int]:
    loader = getattr(trainer, "loader", None)  # not there yet while settings are measured
    return trainer.state.step, 0 if loader is None else loader.batches_read, len(trainer.state.history)
