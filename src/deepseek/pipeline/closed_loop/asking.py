"""Asking the process that follows a run to do something by hand: it alone may change the journal, and it may follow for months."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deepseek.artifacts import write_text
from deepseek.errors import RunError
from deepseek.pipeline.closed_loop.making import WORK

ASKED = "asked"
"""The file, in the loop's own folder, that holds what is asked for; whoever has done it takes it away."""
LOOK_S = 0.5
PATIENCE_S = 60.0
"""So long an asker waits; a process that trains meanwhile heeds it afterwards, or not at all."""


def ask(folder: Path, do: str, *, holder: str, patience_s: float = PATIENCE_S) -> None:
    """Ask the process that follows the runs of a name, and wait until it has heeded that.

    Args:
        folder: The folder of the runs' name.
        do: What to do: `approve` or `undo`.
        holder: The number of that process.
        patience_s: Seconds to wait at most.

    Raises:
        RunError: It was busy for longer; then it is not asked any more.
    """
    place = folder / WORK / ASKED
    write_text(place, do)
    end = time.monotonic() + patience_s
    try:
        while place.exists():
            if time.monotonic() > end:
                raise RunError(
                    f"process {holder}, which follows {folder}, is busy and was not asked to {do}",
                    hint="ask again later, or stop that process first",
                )
            time.sleep(LOOK_S)
    finally:
        place.unlink(missing_ok=True)  # nobody shall find it who begins to follow much later


@contextmanager
def asked(folder: Path) -> Iterator[str | None]:
    """Give what was asked for, or nothing; after the block it counts as heeded."""
    place = folder / WORK / ASKED
    found = None
    with suppress(FileNotFoundError):
        found = place.read_text(encoding="utf-8")
    try:
        yield found
    finally:
        if found is not None:
            place.unlink(missing_ok=True)


def wait_or_heed(folder: Path, seconds: float) -> None:
    """Wait, but not while something is asked for."""
    place, end = folder / WORK / ASKED, time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not place.exists():
        time.sleep(min(left, LOOK_S))


def forget(folder: Path) -> None:
    """Forget what an asker left behind that was killed: whoever begins to follow does not do what was meant for another."""
    (folder / WORK / ASKED).unlink(missing_ok=True)
