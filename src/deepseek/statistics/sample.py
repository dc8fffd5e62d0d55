"""A sample of a stream from which quantiles are read: exact while it is short, bounded and repeatable when it is long."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


class QuantileSample:
    """A uniform sample of a stream of numbers, the same whatever the size of the batches that it came in.

    Each value gets a pseudo-random key, a pure function of its place in the stream and of the seed; those with the smallest keys are kept
    (bottom-k sampling: Cohen and Kaplan, "Summarizing data using bottom-k sketches", PODC 2007). Up to `capacity` values the sample is the
    stream itself and every quantile is exact. Beyond, the rank of a quantile `q` has the standard error `sqrt(q * (1 - q) / capacity)`:
    0.16 % for the median of the default sample.

    NaN and infinite values stand for missing ones: they are passed over.

    Args:
        capacity: How many values are kept, 1 or more; memory is at most 32 bytes for each.
        seed: Changes which ones.

    Attributes:
        count: How many finite values were seen.

    Example:
        >>> sample = QuantileSample()
        >>> sample.update([3.0, 1.0, 2.0])
        >>> sample.quantiles([0.5]).tolist()
        [2.0]
    """

    def __init__(self, capacity: int = 100_000, *, seed: int = 0) -> None:
        self.capacity = capacity
        self.count = 0
        self._seed = seed
        self._limit = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
        self._keys: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._held = 0

    @property
    def exact(self) -> bool:
        """Whether every value that was seen is in the sample."""
        return self.count <= self.capacity

    def update(self, values: ArrayLike) -> None:
        """Take in the next values of the stream, of shape `[rows]`."""
        given = np.asarray(values, dtype=np.float64).ravel()
        finite = given[np.isfinite(given)]
        for start in range(0, len(finite), self.capacity):
            self._add(finite[start : start + self.capacity])

    def values(self) -> np.ndarray:
        """Return the sample, sorted: float64, at most `capacity` values."""
        self._compact()
        return np.sort(self._values[0]) if self._values else np.empty(0)

    def quantiles(self, probabilities: ArrayLike) -> np.ndarray:
        """Return the quantiles, interpolated linearly as in `numpy.quantile`; NaN where nothing was seen.

        Args:
            probabilities: Numbers from 0 to 1.
        """
        wanted = np.asarray(probabilities, dtype=np.float64)
        kept = self.values()
        return np.asarray(np.quantile(kept, wanted)) if len(kept) else np.full(wanted.shape, np.nan)

    def _add(self, values: np.ndarray) -> None:
        places = np.arange(self.count, self.count + len(values), dtype=np.uint64)
        self.count += len(values)
        keys = mix64(places, self._seed)
        small = keys <= self._limit
        self._keys.append(keys[small])
        self._values.append(values[small])
        self._held += int(small.sum())
        if self._held >= 2 * self.capacity or len(self._keys) > 64:
            self._compact()

    def _compact(self) -> None:
        if not self._keys:
            return
        keys, values = np.concatenate(self._keys), np.concatenate(self._values)
        if len(keys) > self.capacity:
            kept = np.argpartition(keys, self.capacity - 1)[: self.capacity]
            keys, values = keys[kept], values[kept]
            self._limit = keys.max()
        self._keys, self._values, self._held = [keys], [values], len(keys)


def mix64(numbers: np.ndarray, seed: int) -> np.ndarray:
    """Return a well-mixed 64-bit key for each number: the finaliser of SplitMix64, a bijection for each seed.

    Unlike the streams of a random generator it is the same in every version of every library, and the key of one row can be had without
    those before it. (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.)

    Args:
        numbers: uint64 of any shape, for example row numbers.
        seed: Any integer; its lowest 64 bits count.

    Returns:
        uint64 of the same shape.
    """
    z = (np.asarray([seed & 0xFFFF_FFFF_FFFF_FFFF], dtype=np.uint64) + np.uint64(1)) * np.uint64(0xD1B5_4A32_D192_ED03)
    z = (numbers.astype(np.uint64) + z) * np.uint64(0x9E37_79B9_7F4A_7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return z ^ (z >> np.uint64(31))
