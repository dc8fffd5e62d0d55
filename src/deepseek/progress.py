"""Log lines and progress bars: the one place that writes to the terminal while work goes on.

Everything goes to stderr, so that stdout holds results alone. On a terminal a task is a bar (rich draws it, imported when the first one
starts); elsewhere it is a plain line now and then; after `quiet()` it is nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

PLAIN_INTERVAL_S = 10.0
"""Seconds between two lines about the same task where there is no terminal."""

Advance = Callable[[int], None]
"""Tells a running task that so many more units are done."""

_shown = True
_collected: ContextVar[list[str] | None] = ContextVar("collected", default=None)


def quiet(on: bool = True) -> None:
    """Turn off progress and log lines (not warnings) for this process, or on again."""
    global _shown  # noqa: PLW0603 - one terminal, one switch
    _shown = not on


def is_quiet() -> bool:
    """Return whether progress and log lines are turned off."""
    return not _shown


def speaks() -> bool:
    """Return whether this process is the one of its job that talks: alone, or rank 0 of those that torchrun or horovodrun has started."""
    by_torchrun = os.environ.get("RANK", "0") if "TORCHELASTIC_RUN_ID" in os.environ else "0"
    return {by_torchrun, os.environ.get("HOROVOD_RANK", "0")} == {"0"}


@contextmanager
def hushed(wanted: bool = True) -> Iterator[None]:
    """Turn progress and log lines off while the block runs, and leave the process as it was, whatever the block itself turned.

    Args:
        wanted: Whether to; where a process is quiet already it stays so.
    """
    before = is_quiet()
    quiet(wanted or before)
    try:
        yield
    finally:
        quiet(before)


def log(message: str) -> None:
    """Write one line about what is happening."""
    if _shown and speaks():
        _write(message)


def warn(message: str) -> None:
    """Write one line that nobody should miss; `quiet` does not silence it."""
    if (collected := _collected.get()) is not None:
        collected.append(message)
    else:
        _write(f"warning: {message}")


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Give what is warned of in the block to its caller, who tells of it in another way, instead of writing it.

    Example:
        >>> with collected_warnings() as said:
        ...     warn("column 'x' is left out")
        >>> said
        ["column 'x' is left out"]
    """
    said: list[str] = []
    token = _collected.set(said)
    try:
        yield said
    finally:
        _collected.reset(token)


def counted(batches: Iterator[pa.RecordBatch], advance: Advance) -> Iterator[pa.RecordBatch]:
    """Pass batches on, and count the rows of each once it has been dealt with.

    Args:
        batches: The batches.
        advance: What `task` yields.
    """
    for batch in batches:
        yield batch
        advance(batch.num_rows)


@contextmanager
def task(title: str, total: int | None = None, *, unit: str = "rows") -> Iterator[Advance]:
    """Show a piece of work while the block runs.

    Args:
        title: What is being done: `"reading customers.csv"`.
        total: How many units there will be, where that is known.
        unit: What is counted.

    Yields:
        A function to call with the number of units just done.

    Example:
        >>> with task("reading", total=2) as advance:
        ...     for batch in (1, 1):
        ...         advance(batch)
    """
    if not _shown:
        yield lambda _done: None
    elif sys.stderr.isatty():
        with _bar(title, total, unit) as advance:
            yield advance
    else:
        yield _plain(title, total, unit)


def _write(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - this module is the terminal's door


def _plain(title: str, total: int | None, unit: str) -> Advance:
    done, due = 0, time.monotonic() + PLAIN_INTERVAL_S

    def advance(more: int) -> None:
        nonlocal done, due
        done += more
        if time.monotonic() >= due:
            due = time.monotonic() + PLAIN_INTERVAL_S
            _write(f"{title}: {done:,}{f' of {total:,}' if total is not None else ''} {unit}")

    return advance


@contextmanager
def _bar(title: str, total: int | None, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed:,.0f}} {escape(unit)}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        identity = progress.add_task(escape(title), total=total)
        yield lambda done: progress.advance(identity, done)
