"""What this process holds in memory, as the system counts it."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path


def loaded_bytes() -> int:
    """Return what this process holds once all libraries of a run are loaded; 0 where the system does not tell."""
    import_module("torch._dynamo")  # PyTorch's optimizers load it when the first one is made
    return resident_bytes()


def resident_bytes() -> int:
    """Return what this process holds in memory now; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def forget_highest() -> None:
    """Have the system begin anew to note the most that this process holds, where it can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def highest_bytes() -> int:
    """Return the most that this process held since it began, or since `forget_highest`; what it holds now where that is not told."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resident_bytes()
