"""How many different values a stream has, in constant memory."""

from __future__ import annotations

import numpy as np


class DistinctCount:
    """How many different hashes came: exact up to `capacity`, estimated beyond.

    The smallest hashes are kept; how small the largest of them is says how densely all lie (Bar-Yossef et al., "Counting distinct elements
    in a data stream", RANDOM 2002). The standard error of the estimate is `1 / sqrt(capacity)`: 0.4 % for the default.

    Args:
        capacity: How many hashes are kept, 3 or more, at 8 bytes each.

    Example:
        >>> count = DistinctCount()
        >>> count.update(np.array([7, 9, 7], dtype=np.uint64))
        >>> count.value
        2
    """

    def __init__(self, capacity: int = 65_536) -> None:
        self.capacity = capacity
        self._kept = np.empty(0, dtype=np.uint64)
        self._exact = True

    @property
    def exact(self) -> bool:
        """Whether every different hash is still kept."""
        return self._exact

    @property
    def value(self) -> int:
        """The number, or its estimate."""
        return len(self._kept) if self._exact else round((self.capacity - 1) / ((float(self._kept[-1]) + 1) / 2.0**64))

    def update(self, hashes: np.ndarray) -> None:
        """Take in hashes, uint64 `[rows]`, that spread evenly over all 64 bits."""
        small = hashes if self._exact else hashes[hashes < self._kept[-1]]
        if not len(small):
            return
        merged = np.union1d(self._kept, small)
        self._exact = self._exact and len(merged) <= self.capacity
        self._kept = merged[: self.capacity]
