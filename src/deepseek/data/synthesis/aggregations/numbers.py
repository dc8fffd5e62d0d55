"""Aggregations that join two runs of rows into one: counts, sums, moments, extremes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from deepseek.data.synthesis.aggregations.base import Aggregation, Ranges, Takes
from deepseek.data.synthesis.ranges import Arrays, fold, without

_NOTHING = 1e-14
"""Skewness that is not told from rounding."""


class CountAggregation(Aggregation):
    """How many rows there are."""

    symbol = "COUNT"
    words = "the number of"
    takes: ClassVar[Takes] = "rows"
    whole = True
    on_itself = False

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        return ranges.lengths.astype(np.float64)


class SumAggregation(Aggregation):
    """The sum; 0 where there is nothing to add."""

    symbol = "SUM"
    words = "the sum of"
    takes: ClassVar[Takes] = "number"
    on_itself = False
    not_on = frozenset({"COUNT"})

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        return _total(values, ranges)


class MeanAggregation(Aggregation):
    """The mean of the values that are there."""

    symbol = "MEAN"
    words = "the mean of"
    takes: ClassVar[Takes] = "number"

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        known = ~np.isnan(values)
        total, count = fold((np.where(known, values, 0.0), known.astype(np.float64)), ranges, join=_add, empty=(0.0, 0.0))
        return _quotient(total, count)


class MinAggregation(Aggregation):
    """The smallest value."""

    symbol = "MIN"
    words = "the smallest"
    takes: ClassVar[Takes] = "number"
    gives = "same"
    on_itself = False

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        return _extreme(values, ranges, np.fmin)


class MaxAggregation(Aggregation):
    """The largest value."""

    symbol = "MAX"
    words = "the largest"
    takes: ClassVar[Takes] = "number"
    gives = "same"
    on_itself = False

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        return _extreme(values, ranges, np.fmax)


class StdAggregation(Aggregation):
    """The standard deviation of a sample, divided by one less than the number of values; missing where there is one value only.

    Runs are joined by their means and squares about them (T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating formulae and a pairwise
    algorithm for computing sample variances", 1979), so that a small spread about a large mean keeps its digits.
    """

    symbol = "STD"
    words = "the standard deviation of"
    takes: ClassVar[Takes] = "number"
    on_itself = False

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        count, _, squares, _ = _moments(values, ranges)
        return np.asarray(np.sqrt(_quotient(squares, count - 1)))


class SkewAggregation(Aggregation):
    """The skewness, corrected for the size of the sample; 0 where all values are equal, missing below three values."""

    symbol = "SKEW"
    words = "the skewness of"
    takes: ClassVar[Takes] = "number"
    on_itself = False

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        count, _, squares, cubes = _moments(values, ranges)
        enough = count > 2
        n = np.where(enough, count, 3.0)
        ratio = np.divide(cubes, squares**1.5, out=np.zeros(len(ranges)), where=squares > 0)
        return np.where(enough, n * np.sqrt(n - 1) / (n - 2) * np.where(np.abs(ratio) < _NOTHING, 0.0, ratio), np.nan)


class TrueCountAggregation(Aggregation):
    """How many values are true."""

    symbol = "NUM_TRUE"
    words = "the number of true values of"
    takes: ClassVar[Takes] = "boolean"
    whole = True

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        return _total(values, ranges)


class TrueShareAggregation(Aggregation):
    """The share of rows whose value is true; a missing one counts as not."""

    symbol = "PERCENT_TRUE"
    words = "the share of true values of"
    takes: ClassVar[Takes] = "boolean"
    skips_missing = False

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        return _quotient(_total(values, ranges), ranges.lengths.astype(np.float64))


def _total(values: np.ndarray, ranges: Ranges) -> np.ndarray:
    return fold((np.nan_to_num(values),), ranges, join=_add, empty=(0.0,))[0]


def _extreme(values: np.ndarray, ranges: Ranges, better: np.ufunc) -> np.ndarray:
    return fold((values,), ranges, join=lambda a, b: (better(a[0], b[0]),), empty=(np.nan,))[0]


def _quotient(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return sums by how many they are of; missing where that is none."""
    return np.asarray(np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0))


def _add(first: Arrays, second: Arrays) -> Arrays:
    return tuple(a + b for a, b in zip(first, second, strict=True))


def _moments(values: np.ndarray, ranges: Ranges) -> Arrays:
    """Return the number of values, their mean, and the sums of squares and cubes about it."""
    known = ~np.isnan(values)
    left = values[known]
    zeros = np.zeros(len(left))
    return fold((np.ones(len(left)), left, zeros, zeros), without(known, ranges), join=_join_moments, empty=(0.0, 0.0, 0.0, 0.0))


def _join_moments(first: Arrays, second: Arrays) -> Arrays:
    (n, mean, squares, cubes), (m, other, more, further) = first, second
    total = n + m
    share = np.divide(m, total, out=np.zeros_like(total), where=total > 0)
    gap = np.where(n > 0, other - mean, 0.0)
    both = gap * gap * n * share
    skewed = gap * both * (1 - 2 * share) + 3 * gap * ((1 - share) * more - share * squares)
    return total, np.where(n > 0, mean + gap * share, other), squares + more + both, cubes + further + skewed
