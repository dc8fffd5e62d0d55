"""How long to go on: what is left of a time-out, and how often to try again."""

from __future__ import annotations

import time


class Patience:
    """What is left of a time-out; it begins anew whenever something has come.

    Args:
        timeout_s: In seconds, 0 or more.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        """The seconds that are left, 0 where there are none."""
        return max(self._end - time.monotonic(), 0.0)

    def renew(self) -> None:
        """Begin anew."""
        self._end = time.monotonic() + self.timeout_s

    def wait(self, at_most_s: float) -> bool:
        """Sleep a while; return whether there was any time left to."""
        left = self.left_s
        time.sleep(min(left, at_most_s))
        return left > 0
