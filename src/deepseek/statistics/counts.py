"""The most common values of a stream, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class TopCounts:
    """How often each value came, exact while there are at most `capacity` different ones.

    Beyond that, the counters are thinned as in Misra and Gries, "Finding repeated elements" (1982), in the mergeable form of Agarwal et
    al., "Mergeable summaries" (PODS 2012): each count is then too low by at most `error`, which is at most `total / (capacity + 1)`; a
    value more frequent than that is never missed.

    Args:
        capacity: How many different values are counted, 1 or more.

    Attributes:
        total: How many values were seen.
        error: By how much a count may be too low; 0 while the counts are exact.

    Example:
        >>> counts = TopCounts()
        >>> counts.update({"red": 2, "blue": 5}.items())
        >>> counts.most_common(1)
        [('blue', 5)]
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self.capacity = capacity
        self.total = 0
        self.error = 0
        self._counts: dict[Any, int] = {}

    @property
    def exact(self) -> bool:
        """Whether no counter was ever thinned."""
        return self.error == 0

    def update(self, counted: Iterable[tuple[Any, int]]) -> None:
        """Take in values of one batch with how often each came (count a column with Arrow or NumPy first, not value by value)."""
        for value, count in counted:
            self._counts[value] = self._counts.get(value, 0) + count
            self.total += count
        self._thin()

    def merge(self, other: TopCounts) -> None:
        """Take in what another object counted."""
        for value, count in other._counts.items():
            self._counts[value] = self._counts.get(value, 0) + count
        self.total += other.total
        self.error += other.error
        self._thin()

    def most_common(self, limit: int | None = None) -> list[tuple[Any, int]]:
        """Return values and counts, the most frequent first; among equals the smallest value, so that the order of rows does not matter."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:limit]

    def _thin(self) -> None:
        if len(self._counts) <= self.capacity:
            return
        excess = sorted(self._counts.values(), reverse=True)[self.capacity]
        self._counts = {value: count - excess for value, count in self._counts.items() if count > excess}
        self.error += excess
