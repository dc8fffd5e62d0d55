"""Where, in rows that are known already, a mean has changed: for deciding which rows are still of today's world."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

MARGIN = 30
"""Rows on either side of a change, at least: the mean of fewer says too little."""


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """Where a mean has changed most.

    Attributes:
        place: The first row after the change.
        before: The mean up to it.
        after: The mean from it on.
        p: The probability of so large a change somewhere in rows whose mean does not change.
    """

    place: int
    before: float
    after: float
    p: float


def change_point(values: ArrayLike, *, margin: int = MARGIN) -> ChangePoint | None:
    """Return the place from which on the mean is lower, where it is so most clearly; nothing where rows are too few or all alike.

    The place is the most likely one for a single change (Hinkley, "Inference about the change-point in a sequence of random variables",
    Biometrika 1970). The probability is that of the largest deviation of the cumulative sum, exact for many rows (Ploberger and Krämer,
    "The CUSUM test with OLS residuals", Econometrica 1992): one-sided, `exp(-2 x²)`.

    Args:
        values: One number a row in the order of time, higher for better, `[rows]`.
        margin: The fewest rows on either side.

    Example:
        >>> change_point([1.0, 0.9] * 50 + [0.1, 0.2] * 50).place
        100
    """
    rows = np.asarray(values, dtype=np.float64).ravel()
    count, spread = len(rows), float(rows.std()) if len(rows) else 0.0
    if count < 2 * margin or spread == 0:
        return None
    sums = np.cumsum(rows - rows.mean())[:-1]
    places = np.arange(1, count)
    inside = slice(margin - 1, count - margin)
    clearest = np.argmax(sums[inside] / np.sqrt(places[inside] * (count - places[inside])))
    place = int(places[inside][clearest])
    reached = max(float(sums.max()), 0.0) / (spread * math.sqrt(count))
    return ChangePoint(place, float(rows[:place].mean()), float(rows[place:].mean()), math.exp(-2 * reached * reached))
