"""Which of a stream's hashes have come before, at eight bytes for each."""

from __future__ import annotations

import numpy as np


class SeenHashes:
    """The set of the 64-bit hashes that were seen.

    A Python set takes some 60 bytes for each member and one look-up a row; sorted runs whose sizes double (the logarithmic method of
    Bentley and Saxe, "Decomposable searching problems", 1980) take 8 bytes, 16 for a moment while two runs become one, and look a whole
    batch up at once.

    Two different rows have the same hash with a probability of `rows² / 2^65`: about one in 90,000 for a table of 20 million rows.
    """

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def add(self, hashes: np.ndarray) -> np.ndarray:
        """Remember hashes and say which were not new.

        Args:
            hashes: uint64 `[rows]`.

        Returns:
            Boolean `[rows]`: true where the hash came before, in an earlier batch or earlier in this one.
        """
        unique, first = np.unique(hashes, return_index=True)
        known = self.contains(unique)
        repeated = np.ones(len(hashes), dtype=bool)
        repeated[first[~known]] = False
        if not known.all():
            self._runs.append(unique[~known])
        while len(self._runs) > 1 and 2 * len(self._runs[-1]) >= len(self._runs[-2]):
            merged = np.concatenate((self._runs.pop(), self._runs.pop()))
            merged.sort()
            self._runs.append(merged)
        return repeated

    def contains(self, hashes: np.ndarray) -> np.ndarray:
        """Return a boolean array: true where the hash was seen."""
        known = np.zeros(len(hashes), dtype=bool)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            known |= run[places] == hashes
        return known
