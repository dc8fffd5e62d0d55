"""Hashes that are held, and asked of many others which of them they know."""

from __future__ import annotations

import numpy as np

_MOST_BITS = 24
_PER_HASH = 16


class KnownHashes:
    """A set of 64-bit hashes, for questions of which most are answered no.

    A table of one byte for each value of a hash's lowest bits answers nearly all of them: it is as large as the processor's caches, and
    what it lets pass is looked up in sorted order. Memory is 16 bytes a hash and at most 16 MB.

    Args:
        hashes: uint64 `[n]`, also several times the same.
    """

    def __init__(self, hashes: np.ndarray) -> None:
        self._order = np.argsort(hashes, kind="stable")
        self._ranked = hashes[self._order]
        bits = min(max(int(len(hashes) * _PER_HASH - 1).bit_length(), 8), _MOST_BITS)
        self._mask = np.uint64((1 << bits) - 1)
        self._maybe = np.zeros(1 << bits, dtype=bool)
        self._maybe[hashes & self._mask] = True

    def __len__(self) -> int:
        return len(self._ranked)

    def places(self, hashes: np.ndarray) -> np.ndarray:
        """Return the places of those hashes that are known, ascending, int64.

        Args:
            hashes: uint64 `[m]`.
        """
        maybe = np.flatnonzero(self._maybe[hashes & self._mask])
        if not len(maybe):
            return maybe
        asked = hashes[maybe]
        found = self._ranked[np.minimum(np.searchsorted(self._ranked, asked), len(self._ranked) - 1)] == asked
        known: np.ndarray = maybe[found]
        return known

    def known_by(self, hash_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which of the held hashes some values are, each value known and given once.

        Args:
            hash_values: uint64 `[k]`.

        Returns:
            For each value the first place among the held hashes, int64 `[k]`, and the places of all that are one of the values.
        """
        starts = np.searchsorted(self._ranked, hash_values)
        counts = np.searchsorted(self._ranked, hash_values, side="right") - starts
        ends = np.cumsum(counts)
        every = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
        return self._order[starts], self._order[every]
