"""Watching that all ranks get on: when one hangs, the others say which, at what step and where, and all of them stop.

A rank that waits in a collective for one that will never come cannot say so itself. So every rank has a thread that writes down once a
second, in the store that all of them see, at which step its work is and in which line. Where nothing has moved for too long, the threads
read what the others wrote: the rank that does not wait for others is the one they wait for, and one that writes nothing any more is
stopped, or dead.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

from torch.distributed import Store  # type: ignore[attr-defined]  # re-exported without being named

from deepseek.distributed.ranks import RankContext
from deepseek.errors import RunError

BEAT_S = 1.0
_SILENT_BEATS = 5
WAITING = (f"torch{os.sep}distributed", f"deepseek{os.sep}distributed{os.sep}sync.py")
"""In which files a rank waits for others."""
_KEY = "deepseek/beat"

T = TypeVar("T")
_reporters: list[Callable[[RunError], None]] = []


@dataclass(frozen=True)
class Beat:
    """What a rank last wrote of itself.

    Attributes:
        rank: Which it is.
        step: Optimizer steps made.
        moved: What it has got done, in steps and batches.
        count: How often it has written.
        where: The line that it was in.
        waits: Whether that line waits for other ranks.
        host: The machine that it runs on.
        pid: Its process there.
    """

    rank: int
    step: int
    moved: int
    count: int
    where: str
    waits: bool
    host: str = ""
    pid: int = 0


class Watch:
    """Tells the watch how far this rank is; costs nothing worth counting."""

    def __init__(self) -> None:
        self.step = self.moved = 0
        self.moved_at = time.monotonic()

    def at(self, step: int) -> None:
        """Note that so many optimizer steps have been made."""
        self.step = step
        self.move()

    def move(self) -> None:
        """Note that something has got done."""
        self.moved += 1
        self.moved_at = time.monotonic()

    def through(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items, each of which is something done."""
        for item in items:
            self.move()
            yield item


@contextmanager
def reporting_to(report: Callable[[RunError], None]) -> Iterator[None]:
    """Hand what the watch finds to a function for the length of a block, instead of to standard error.

    Args:
        report: Is called in the watch's thread; the process ends afterwards.
    """
    _reporters.append(report)
    try:
        yield
    finally:
        _reporters.remove(report)


@contextmanager
def watched(ranks: RankContext, store: Store | None, *, timeout_s: float | None) -> Iterator[Watch]:
    """Watch over this rank for the length of a block.

    When nothing has moved for too long the process is ended, after it has been said why: the main thread cannot be woken.

    Args:
        ranks: This process's place in the job; a single rank is not watched, having nobody to wait for.
        store: Where ranks write to each other; none for no watch.
        timeout_s: Seconds without any progress; none for no watch.
    """
    watch = Watch()
    if ranks.is_single or store is None or timeout_s is None:
        yield watch
        return
    ended = threading.Event()
    main = threading.get_ident()
    own = store.clone()  # type: ignore[attr-defined]  # a connection for each thread; not in the stubs
    work = threading.Thread(target=_look_after, args=(watch, ranks, own, main, ended, timeout_s), daemon=True)
    work.start()
    try:
        yield watch
    finally:
        ended.set()
        work.join(10 * BEAT_S)


def _look_after(watch: Watch, ranks: RankContext, store: Store, main: int, ended: threading.Event, timeout_s: float) -> None:
    count = 0
    while not ended.wait(BEAT_S if count else 0.0):
        count += 1
        try:
            _write(store, watch, ranks, main, count)
            still = time.monotonic() - watch.moved_at
            if still < timeout_s:
                continue
            before = _read(store, ranks)
            for _ in range(_SILENT_BEATS):
                if ended.wait(BEAT_S):
                    return
                count += 1
                _write(store, watch, ranks, main, count)
            if time.monotonic() - watch.moved_at >= timeout_s:
                now = _read(store, ranks)
                _give_up(verdict(before, now, still_s=still), main, dead=[now[rank] for rank in silent_of(before, now)])
        except RuntimeError:  # the store is gone, and with it whoever could be told: the process is about to be ended
            return


def silent_of(before: dict[int, Beat], now: dict[int, Beat]) -> list[int]:
    """Return the ranks that have written nothing in between."""
    return [rank for rank, beat in now.items() if rank in before and beat.count == before[rank].count]


def verdict(before: dict[int, Beat], now: dict[int, Beat], *, still_s: float) -> RunError:
    """Say which rank the others wait for.

    Args:
        before: What each rank had written some seconds ago.
        now: What each has written now.
        still_s: For how long nothing has moved.
    """
    silent = silent_of(before, now)
    furthest = max(beat.moved for beat in now.values())
    behind = [rank for rank, beat in now.items() if beat.moved < furthest]
    busy = [rank for rank, beat in now.items() if not beat.waits]
    late = silent or busy or behind or list(now)
    lines = []
    for rank, beat in sorted(now.items()):
        state = "does not answer any more" if rank in silent else "waits for the others" if beat.waits else "is"
        lines.append(f"rank {rank} {state} at step {beat.step}, in {beat.where}")
    who = ", ".join(f"rank {rank} at step {now[rank].step}" for rank in sorted(late))
    hint = "raise train.stall if a step may take that long; else look at what that rank does in that line"
    return RunError(f"nothing has moved for {still_s:.0f} s; the others wait for {who} ({'; '.join(lines)})", hint=hint)


def _give_up(error: RunError, main: int, *, dead: list[Beat]) -> None:
    frame = _frame_of(main)
    error.add_note("Where this rank is:\n" + "".join(traceback.format_stack(frame)) if frame is not None else "")
    if _reporters:
        _reporters[-1](error)
    else:
        print(f"{error}\n{error.__notes__[0]}", file=sys.stderr, flush=True)  # noqa: T201 (the last word of a process)
    for beat in dead:
        if beat.pid and beat.host == socket.gethostname():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(beat.pid, signal.SIGKILL)  # one that is stopped would not hear a kinder word
    os._exit(1)  # the main thread is in a collective that will never return


def _write(store: Store, watch: Watch, ranks: RankContext, main: int, count: int) -> None:
    where, waits = _place(_frame_of(main))
    value = {"rank": ranks.rank, "step": watch.step, "moved": watch.moved, "count": count, "where": where, "waits": waits}
    store.set(f"{_KEY}/{ranks.rank}", json.dumps({**value, "host": socket.gethostname(), "pid": os.getpid()}))


def _read(store: Store, ranks: RankContext) -> dict[int, Beat]:
    keys = {rank: f"{_KEY}/{rank}" for rank in range(ranks.ranks)}
    found = {rank: json.loads(store.get(key)) for rank, key in keys.items() if store.check([key])}
    missing = Beat(0, 0, 0, 0, "nothing that is known", waits=False)
    return {rank: Beat(**found[rank]) if rank in found else missing for rank in keys}


def _frame_of(thread: int) -> FrameType | None:
    return sys._current_frames().get(thread)  # noqa: SLF001 (the one way to look at another thread)


def _place(frame: FrameType | None) -> tuple[str, bool]:
    """Return the innermost line of ours (or of a plugin), and whether what it calls waits for other ranks."""
    waits, innermost = False, "nothing that is known"
    while frame is not None:
        name = frame.f_code.co_filename
        waits = waits or any(part in name for part in WAITING)
        if f"{os.sep}torch{os.sep}" not in name and not any(part in name for part in WAITING):
            return f"{frame.f_code.co_name} ({name}:{frame.f_lineno})", waits
        innermost = f"{frame.f_code.co_name} ({name}:{frame.f_lineno})"
        frame = frame.f_back
    return innermost, waits
