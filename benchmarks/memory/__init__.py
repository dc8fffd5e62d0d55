"""What memory this process holds, and the most that it held while something ran."""

from __future__ import annotations

import threading
import time
from pathlib import Path


def memory(key: str) -> int:
    """Return the bytes that `/proc/self/status` names: `RssAnon`, what belongs to no file, or `VmHWM`, the most there ever was of all."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


class Peak(threading.Thread):
    """Looks at `RssAnon` every 10 ms, from `start` until `going` is set to false."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.anonymous, self.going = 0, True

    def run(self) -> None:
        while self.going:
            self.anonymous = max(self.anonymous, memory("RssAnon"))
            time.sleep(0.01)
