"""How many processors there are to share out."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Return on how many cores this process may run: fewer than the machine has where it is pinned, as `taskset` and containers do."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
