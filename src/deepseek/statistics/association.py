"""How closely two columns go together, whatever they hold: numbers, categories, or one of each."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def pearson(first: ArrayLike, second: ArrayLike) -> float:
    """Return the linear correlation of two columns of numbers, -1 to 1; NaN where one is constant or fewer than 3 rows have both."""
    one, two = _both(first, second)
    if len(one) < 3 or one.min() == one.max() or two.min() == two.max():
        return math.nan
    one, two = (values / np.abs(values).max() for values in (one, two))  # squares of what is near the largest float are infinite
    return float(np.clip(np.corrcoef(one, two)[0, 1], -1.0, 1.0))


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return the correlation of two columns' ranks, -1 to 1: 1 for any rising relation, and hardly moved by outliers (Spearman 1904)."""
    one, two = _both(first, second)
    return pearson(mid_ranks(one), mid_ranks(two)) if len(one) else math.nan


def cramers_v(first: np.ndarray, second: np.ndarray) -> float:
    """Return how closely two columns of categories go together, 0 to 1.

    With the correction of Bergsma, "A bias-correction for Cramér's V and Tschuprow's T" (Journal of the Korean Statistical Society 2013):
    without it, two columns of a hundred categories each look related in any small table. NaN where a column is constant.

    Args:
        first: Each row's category as a whole number, -1 where it is missing, `[rows]`.
        second: The same.
    """
    known = (first >= 0) & (second >= 0)
    one, two = (np.unique(values[known], return_inverse=True)[1] for values in (first, second))
    if not len(one) or not one.any() or not two.any():
        return math.nan
    rows, r, k = len(one), int(one.max()) + 1, int(two.max()) + 1
    cells, counts = np.unique(one * k + two, return_counts=True)
    ones, twos = np.bincount(one), np.bincount(two)
    # chi² = n (Σ n_ij² / (n_i n_j) - 1): empty cells add nothing, so that no table of r × k is ever made
    chi = rows * max(float((counts**2 / (ones[cells // k].astype(np.float64) * twos[cells % k])).sum()) - 1.0, 0.0)
    phi = max(chi / rows - (r - 1) * (k - 1) / (rows - 1), 0.0)
    least = min(r - (r - 1) ** 2 / (rows - 1), k - (k - 1) ** 2 / (rows - 1)) - 1
    return min(math.sqrt(phi / least), 1.0) if least > 0 else math.nan


def correlation_ratio(categories: np.ndarray, values: ArrayLike) -> float:
    """Return how much of a column of numbers its categories explain, 0 to 1: the square root of the share of the variance.

    With Kelley's correction for the number of categories ("An unbiased correlation ratio measure", PNAS 1935), without which many small
    groups explain anything. NaN where one of them is constant.

    Args:
        categories: Each row's category as a whole number, -1 where it is missing, `[rows]`.
        values: Numbers `[rows]`, NaN where missing.
    """
    numbers = np.asarray(values, dtype=np.float64)
    known = (categories >= 0) & np.isfinite(numbers)
    groups, numbers = np.unique(categories[known], return_inverse=True)[1], numbers[known]
    rows = len(groups)
    count = int(groups.max()) + 1 if rows else 0
    if count < 2 or rows <= count or numbers.min() == numbers.max():
        return math.nan
    numbers = numbers / np.abs(numbers).max()
    means = np.bincount(groups, weights=numbers) / np.bincount(groups)
    within = float(((numbers - means[groups]) ** 2).sum())
    total = float(((numbers - numbers.mean()) ** 2).sum())
    return math.sqrt(max(1.0 - within / (rows - count) * (rows - 1) / total, 0.0))


def mid_ranks(values: np.ndarray) -> np.ndarray:
    """Return each value's rank from 1 on, float64; equal values share the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.r_[starts[1:], len(values)]
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


def _both(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    known = np.isfinite(one) & np.isfinite(two)
    return one[known], two[known]
