"""Mean and variance of a stream, in one pass and in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike


class Moments:
    """Count, mean and variance of each column of a stream of rows.

    Each batch is reduced by itself (two passes over memory that is at hand anyway) and merged into the running values by the pairwise
    formula of Chan, Golub and LeVeque, "Algorithms for computing the sample variance" (The American Statistician, 1983), so that a large
    mean does not swallow a small variance as it does in sums of squares.

    NaN and infinite values stand for missing ones: they are not counted.

    Args:
        columns: How many columns a row has, 1 or more.

    Attributes:
        count: int64 `[columns]`: the finite values seen.
        mean: float64 `[columns]`: 0 where nothing was seen.

    Example:
        >>> moments = Moments(1)
        >>> moments.update([[1.0], [2.0], [3.0]])
        >>> float(moments.mean[0]), float(moments.variance()[0])
        (2.0, 0.6666666666666666)
    """

    def __init__(self, columns: int = 1) -> None:
        self.count = np.zeros(columns, dtype=np.int64)
        self.mean = np.zeros(columns)
        self._squares = np.zeros(columns)

    def update(self, values: ArrayLike) -> None:
        """Take in rows of shape `[rows, columns]` (or `[rows]` for a single column)."""
        rows = np.asarray(values, dtype=np.float64).reshape(-1, len(self.count))
        finite = np.isfinite(rows)
        if len(rows) and finite.all():
            self._merge(*_whole(rows))
            return
        count = finite.sum(axis=0)
        divisor = np.maximum(count, 1)
        low = np.where(finite, rows, np.inf).min(axis=0, initial=np.inf)
        high = np.where(finite, rows, -np.inf).max(axis=0, initial=-np.inf)
        mean = np.where(finite, rows, 0.0).sum(axis=0) / divisor
        mean = np.where(low == high, low, mean)  # the sum of many 0.1 is rounded, and a constant's variance would not be 0
        deviations = np.where(finite, rows - mean, 0.0) if finite.any() else np.zeros_like(rows)
        # the second sum would be 0 in exact arithmetic; it takes back the rounding of `mean` (Chan et al., eq. 1.7)
        squares = (deviations**2).sum(axis=0) - deviations.sum(axis=0) ** 2 / divisor
        self._merge(count, mean, np.maximum(squares, 0.0))

    def merge(self, other: Moments) -> None:
        """Take in what another object saw, as if its rows had come here."""
        self._merge(other.count, other.mean, other._squares)

    def variance(self, *, ddof: int = 0) -> np.ndarray:
        """Return the variance of each column: float64 `[columns]`, 0 where there are not more than `ddof` values.

        Args:
            ddof: 0 for the variance of these values, 1 for the unbiased estimate of the population's.
        """
        return np.where(self.count > ddof, self._squares / np.maximum(self.count - ddof, 1), 0.0)

    def std(self, *, ddof: int = 0) -> np.ndarray:
        """Return the standard deviation of each column: float64 `[columns]`."""
        return np.asarray(np.sqrt(self.variance(ddof=ddof)))

    def to_json(self) -> dict[str, Any]:
        """Return what was seen as plain JSON values, exactly."""
        return {"count": self.count.tolist(), "mean": self.mean.tolist(), "squares": self._squares.tolist()}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """Return the object that `to_json` described."""
        moments = cls(len(state["count"]))
        moments.count = np.asarray(state["count"], dtype=np.int64)
        moments.mean = np.asarray(state["mean"], dtype=np.float64)
        moments._squares = np.asarray(state["squares"], dtype=np.float64)
        return moments

    def _merge(self, count: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> None:
        total = self.count + count
        share = count / np.maximum(total, 1)
        delta = mean - self.mean
        self.mean = self.mean + delta * share
        self._squares = self._squares + squares + delta**2 * self.count * share
        self.count = total


def _whole(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return count, mean and sum of squared deviations of rows without missing values: the same numbers by a third of the passes."""
    count = np.full(rows.shape[1], len(rows))
    mean = rows.sum(axis=0) / len(rows)
    mean = np.where(rows.min(axis=0) == rows.max(axis=0), rows[0], mean)
    deviations = rows - mean
    left = deviations.sum(axis=0) ** 2 / len(rows)
    np.square(deviations, out=deviations)
    return count, mean, np.maximum(deviations.sum(axis=0) - left, 0.0)
