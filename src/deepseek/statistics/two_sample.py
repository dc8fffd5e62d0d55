"""Whether two samples come from one distribution: tests, distances between histograms, and what many tests at once are worth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

SMOOTHING = 0.5
"""Rows added to every bin before shares are compared (Jeffreys' prior), so that an empty bin does not make a distance infinite."""


@dataclass(frozen=True, slots=True)
class SampleTest:
    """What a test found.

    Attributes:
        statistic: The test's statistic; NaN where there was nothing to compare.
        p: The probability of at least this much difference where there is none; 1 where there was nothing to compare.
    """

    statistic: float
    p: float


def kolmogorov_smirnov(first: ArrayLike, second: ArrayLike) -> SampleTest:
    """Test whether two samples of numbers have one distribution, by the largest distance between their cumulative shares.

    The probability is Kolmogorov's series with Stephens' correction for small samples ("Use of the Kolmogorov–Smirnov, Cramér–von Mises
    and related statistics without extensive tables", JRSS B 1970): right within a few per cent from about 10 values each. Where values
    come again and again (whole numbers) the true probability is smaller: the test is then on the safe side.

    Args:
        first: Numbers; NaN and infinite ones are passed over.
        second: The same.

    Returns:
        The largest distance, 0 to 1, and its probability.

    Example:
        >>> kolmogorov_smirnov(range(100), range(50, 150)).statistic
        0.5
    """
    one, two = _finite_sorted(first), _finite_sorted(second)
    if not len(one) or not len(two):
        return SampleTest(math.nan, 1.0)
    values = np.concatenate((one, two))
    below = np.searchsorted(one, values, side="right") / len(one) - np.searchsorted(two, values, side="right") / len(two)
    distance = float(np.abs(below).max())
    rows = math.sqrt(len(one) * len(two) / (len(one) + len(two)))
    return SampleTest(distance, _kolmogorov_tail((rows + 0.12 + 0.11 / rows) * distance))


def binned_kolmogorov_smirnov(first: ArrayLike, second: ArrayLike) -> SampleTest:
    """Test whether two histograms over the same bins come from one distribution, by the distance of their cumulative shares at the edges.

    Between the edges the distance may be larger: the statistic is at most that of the values themselves, short of it by no more than the
    largest share of one bin, and the probability is too large rather than too small.

    Args:
        first: Rows in each bin, `[bins]`, the bins in ascending order.
        second: The same for the other sample.

    Example:
        >>> binned_kolmogorov_smirnov([50, 50, 0], [0, 50, 50]).statistic
        0.5
    """
    counts = np.asarray([first, second], dtype=np.float64)
    rows = counts.sum(axis=1)
    if not rows.all():
        return SampleTest(math.nan, 1.0)
    shares = np.cumsum(counts, axis=1) / rows[:, None]
    distance = float(np.abs(shares[0] - shares[1]).max())
    root = math.sqrt(rows[0] * rows[1] / rows.sum())
    return SampleTest(distance, _kolmogorov_tail((root + 0.12 + 0.11 / root) * distance))


def chi_square(first: ArrayLike, second: ArrayLike, *, least: float = 5.0) -> SampleTest:
    """Test whether two columns of counts have the same shares (Pearson's test of homogeneity).

    Categories that are expected fewer than `least` times in either sample are pooled, the rarest first, until all are (Cochran, "Some
    methods for strengthening the common χ² tests", Biometrics 1954): the χ² distribution holds for none with a handful of rows.

    Args:
        first: How often each category came in one sample, `[categories]`.
        second: The same for the other sample, in the same order.
        least: The fewest rows that a category is to be expected in.

    Example:
        >>> chi_square([50, 50], [50, 50]).p
        1.0
    """
    counts = _pooled(np.asarray([first, second], dtype=np.float64), least)
    rows = counts.sum(axis=1, keepdims=True)
    if counts.shape[1] < 2 or not rows.all():
        return SampleTest(math.nan, 1.0)
    expected = rows * counts.sum(axis=0) / rows.sum()
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return SampleTest(statistic, chi_square_tail(statistic, counts.shape[1] - 1))


def population_stability(reference: ArrayLike, current: ArrayLike) -> float:
    """Return the population stability index of two histograms: `Σ (c - r) ln(c / r)` over the shares of their bins.

    It is the symmetric Kullback–Leibler divergence (Jeffreys 1946) under the name it has in credit scoring (Siddiqi, "Credit risk
    scorecards", 2006), where below 0.1 is read as no shift worth acting on and from 0.25 as a large one. Half a row is added to each bin
    (`SMOOTHING`). Without any shift its expectation is about `(bins - 1)(1 / n + 1 / m)`: small samples are never at 0.

    Args:
        reference: Rows in each bin, `[bins]`.
        current: The same for the other sample.

    Example:
        >>> round(population_stability([500, 500], [700, 300]), 3)
        0.169
    """
    one, two = _smoothed(reference), _smoothed(current)
    return float(((two - one) * np.log(two / one)).sum())


def jensen_shannon(first: ArrayLike, second: ArrayLike) -> float:
    """Return the Jensen–Shannon distance of two histograms: 0 for the same shares, 1 for no bin in common.

    The square root of the divergence in bits, which is a metric (Endres and Schindelin, "A new metric for probability distributions", IEEE
    Transactions on Information Theory 2003). NaN where a histogram is empty.

    Args:
        first: Rows in each bin, `[bins]`.
        second: The same for the other sample.

    Example:
        >>> jensen_shannon([1, 0], [0, 1])
        1.0
    """
    counts = np.asarray([first, second], dtype=np.float64)
    rows = counts.sum(axis=1, keepdims=True)
    if not rows.all():
        return math.nan
    shares = counts / rows
    middle = shares.mean(axis=0)
    ratio = np.divide(shares, middle, out=np.ones_like(shares), where=shares > 0)
    return math.sqrt(max(float((shares * np.log2(ratio)).sum()) / 2, 0.0))


def quantile_edges(reference: ArrayLike, bins: int = 10) -> np.ndarray:
    """Return the inner edges of bins with equally many reference rows: float64, ascending, at most `bins - 1`.

    Where one value fills several bins they become one, which starts at that value.

    Args:
        reference: Numbers; NaN and infinite ones are passed over.
        bins: How many bins are wanted, 2 or more.
    """
    values = _finite_sorted(reference)
    if not len(values):
        return np.empty(0)
    edges = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="higher"))
    return np.asarray(edges[edges > values[0]])


def bin_counts(values: ArrayLike, edges: np.ndarray) -> np.ndarray:
    """Return how many values lie in each bin, int64 `[edges + 1]`: below the first edge, from each edge on, and from the last upwards."""
    return np.bincount(np.searchsorted(edges, _finite_sorted(values), side="right"), minlength=len(edges) + 1)


def benjamini_hochberg(probabilities: ArrayLike) -> np.ndarray:
    """Return probabilities adjusted for how many tests were made, `[tests]`: of what is then called drift below `a`, a share `a` is none.

    Benjamini and Hochberg, "Controlling the false discovery rate" (JRSS B 1995). A hundred columns tested at 5 % give five alarms without
    any drift; adjusted, one table in twenty gives any.

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.5]).tolist()
        [0.03, 0.06, 0.5]
    """
    given = np.asarray(probabilities, dtype=np.float64)
    falling = np.argsort(given)[::-1]
    ranks = np.arange(len(given), 0, -1)
    adjusted = np.empty_like(given)
    adjusted[falling] = np.minimum.accumulate(np.minimum(given[falling] * len(given) / ranks, 1.0))
    return adjusted


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return the probability that a χ² variable exceeds a value: the regularised upper incomplete gamma function `Q(degrees/2, x/2)`.

    By its series below `a + 1` and its continued fraction above (Abramowitz and Stegun 6.5.29 and 6.5.31).

    Args:
        statistic: The value, at least 0.
        degrees: Degrees of freedom, 1 or more.
    """
    a, x = degrees / 2, statistic / 2
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        return max(1.0 - scale * _gamma_series(a, x), 0.0)
    return scale * _gamma_fraction(a, x)


def _gamma_series(a: float, x: float) -> float:
    term = total = 1 / a
    while term > total * 1e-16:
        a += 1
        term *= x / a
        total += term
    return total


def _gamma_fraction(a: float, x: float) -> float:
    """Return the continued fraction, by the modified method of Lentz."""
    b = x + 1 - a
    c, d = 1e300, 1 / b
    value, number = d, 0
    while True:
        number += 1
        step = number * (a - number)
        b += 2
        d = 1 / (step * d + b)
        c = b + step / c
        value *= c * d
        if abs(c * d - 1) < 1e-15 or number > 100_000:
            return value


def _kolmogorov_tail(x: float) -> float:
    """Return `P(K > x)` of Kolmogorov's distribution; below 0.2 it is 1 to twelve digits, and the series would need ever more terms."""
    if x < 0.2:
        return 1.0
    k = np.arange(1, 101)
    return float(np.clip(2 * ((-1.0) ** (k - 1) * np.exp(-2 * (k * x) ** 2)).sum(), 0.0, 1.0))


def _pooled(counts: np.ndarray, least: float) -> np.ndarray:
    counts = counts[:, counts.sum(axis=0) > 0]
    total = counts.sum()
    if not total:
        return counts
    counts = counts[:, np.argsort(counts.sum(axis=0), kind="stable")]
    share = counts.sum(axis=1).min() / total
    enough = np.cumsum(counts.sum(axis=0)) * share >= least
    rare = counts.sum(axis=0) * share < least
    if not rare.any():
        return counts
    # all rare ones go into one; if that is still too small the next one joins it
    last = max(int(rare.sum()), int(np.argmax(enough)) + 1 if enough.any() else counts.shape[1])
    return np.column_stack((counts[:, :last].sum(axis=1), counts[:, last:]))


def _smoothed(counts: ArrayLike) -> np.ndarray:
    given = np.asarray(counts, dtype=np.float64) + SMOOTHING
    return np.asarray(given / given.sum())


def _finite_sorted(values: ArrayLike) -> np.ndarray:
    given = np.asarray(values, dtype=np.float64).ravel()
    return np.sort(given[np.isfinite(given)])
