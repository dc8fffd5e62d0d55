"""What the system's allocator does with memory that was given back.

A training step takes the same blocks as the step before and gives them back. glibc returns what is free at the end of its heap to the
system at once where it is more than a threshold, and the next step has every page of it mapped and cleared anew: up to a quarter of the
time of a step on a processor. While a model is trained, freed memory is kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
_KEPT = {_TRIM_THRESHOLD: (1 << 31) - 1, _TOP_PAD: 64 << 20, _MMAP_THRESHOLD: 32 << 20}
_USUAL = {_TRIM_THRESHOLD: 64 << 20, _TOP_PAD: 128 << 10}
"""What glibc's own thresholds come to once large blocks were given back."""
_SAID_BY_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")
_lock = threading.Lock()
_blocks = 0
"""In how many blocks freed memory is to be kept now: the thresholds are the process's, and the last one gives it back."""


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Keep, in this block, what is given back for who asks next; afterwards the system has it again.

    With another C library than glibc, or where the environment says how glibc is to do it (`MALLOC_TRIM_THRESHOLD_` and its like, or
    `glibc.malloc` in `GLIBC_TUNABLES`), nothing is changed. A process then holds until the end of the block what it held at its highest
    moment, which it needs again in the next step. Of several blocks at once, in threads or one in the other, the last to end gives back.

    Yields:
        Whether it is kept.

    Example:
        >>> with freed_memory_kept():
        ...     pass
    """
    set_option = None if _is_said() else _glibc("mallopt")
    if set_option is None:
        yield False
        return
    global _blocks  # noqa: PLW0603 - one process, one allocator
    with _lock:
        _blocks += 1
    try:
        yield all(set_option(option, value) for option, value in _KEPT.items())
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                for option, value in _USUAL.items():
                    set_option(option, value)
        if not _blocks:
            give_back()


def give_back() -> None:
    """Have the system's allocator give back what is free in it, where it can: glibc keeps most of it for later."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _is_said() -> bool:
    return any(name in os.environ for name in _SAID_BY_THE_USER) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")


def _glibc(name: str) -> ctypes._NamedFuncPointer | None:
    """Return a function of glibc; nothing with another C library."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return getattr(library, name, None) if hasattr(library, "gnu_get_libc_version") else None
