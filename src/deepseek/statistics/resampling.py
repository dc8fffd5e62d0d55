"""Intervals of numbers that take weights, whatever they are: how much they would differ had other rows been drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from deepseek.statistics.intervals import Interval


def weighted_bootstrap(
    measure: Callable[[np.ndarray], float], rows: int, *, repeats: int = 200, level: float = 0.95, seed: int = 0, of_rows: int | None = None
) -> Interval:
    """Return a percentile bootstrap interval (Efron, *Annals of Statistics* 7, 1979): rows are drawn again, as many, with repeats.

    Rows are given as counts rather than as a copy, so that whatever takes weights can be measured, without copying anything.

    Args:
        measure: Takes how often each row was drawn, int64 `[rows]`, and returns a number; what is not finite is left out.
        rows: How many rows there are, 1 or more.
        repeats: How often rows are drawn, 20 or more.
        level: The share of draws inside the interval, above 0 and below 1.
        seed: The draws depend on nothing else.
        of_rows: How many rows the interval is for, where `rows` are a sample of them: it becomes narrower by the root of the quotient.

    Returns:
        The number for all rows and the ends of its interval; NaN at both ends where fewer than half of the draws gave a number.
    """
    whole = measure(np.ones(rows, dtype=np.int64))
    draw = np.random.default_rng(seed)
    values = np.array([measure(np.bincount(draw.integers(0, rows, rows), minlength=rows)) for _ in range(repeats)], dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) < repeats / 2:
        return Interval(whole, math.nan, math.nan)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    if of_rows is not None and of_rows > rows:
        shrunk = math.sqrt(rows / of_rows)
        low, high = whole + (low - whole) * shrunk, whole + (high - whole) * shrunk
    return Interval(whole, float(low), float(high))
