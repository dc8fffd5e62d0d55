"""Locks between processes: files that one process holds at a time, and lets go of however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deepseek.artifacts.files import plain_disk_errors
from deepseek.errors import DeepSeekError


@contextmanager
def locked(path: Path, *, refuse: Callable[[str], DeepSeekError] | None = None) -> Iterator[None]:
    """Hold a lock while the block runs.

    Args:
        path: The file that is locked, made with its folder where it is not there; it stays.
        refuse: Called with the number of the process that holds the lock; what it returns is raised. Without it the lock is waited for.

    Raises:
        RunError: The file cannot be made.
    """
    with plain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if refuse is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            assert refuse is not None
            file.seek(0)
            raise refuse(file.read().strip() or "unknown") from None
        if refuse is not None:  # nobody else asks who holds it
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield
