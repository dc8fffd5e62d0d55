"""Aggregations that choose one of the rows' values, or count different ones."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from deepseek.data.synthesis.aggregations.base import Aggregation, Ranges, Takes
from deepseek.data.synthesis.ranges import different, spelled, without


class FirstAggregation(Aggregation):
    """The value of the earliest row, also where it is missing."""

    symbol = "FIRST"
    words = "the first"
    takes: ClassVar[Takes] = "any"
    gives = "same"
    skips_missing = False
    on_itself = False

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        return _taken(values, ranges.starts, ranges)


class LastAggregation(Aggregation):
    """The value of the latest row, also where it is missing."""

    symbol = "LAST"
    words = "the last"
    takes: ClassVar[Takes] = "any"
    gives = "same"
    skips_missing = False
    on_itself = False

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        return _taken(values, ranges.stops - 1, ranges)


class TimeSinceFirstAggregation(Aggregation):
    """Seconds from the earliest row to the cut-off time."""

    symbol = "TIME_SINCE_FIRST"
    words = "seconds since the first"
    takes: ClassVar[Takes] = "row_time"
    moves = True

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        return np.asarray((ranges.cutoffs - _taken(values, ranges.starts, ranges)) / 1e6)


class TimeSinceLastAggregation(Aggregation):
    """Seconds from the latest row to the cut-off time."""

    symbol = "TIME_SINCE_LAST"
    words = "seconds since the last"
    takes: ClassVar[Takes] = "row_time"
    moves = True

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        return np.asarray((ranges.cutoffs - _taken(values, ranges.stops - 1, ranges)) / 1e6)


class UniqueAggregation(Aggregation):
    """How many different values there are; missing where there are no rows, 0 where all values are missing."""

    symbol = "NUM_UNIQUE"
    words = "the number of different"
    takes: ClassVar[Takes] = "category"
    whole = True
    skips_missing = False
    on_itself = False

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        known = ~np.isnan(values)
        return np.where(ranges.lengths > 0, different(values[known], without(known, ranges)), np.nan)


class ModeAggregation(Aggregation):
    """The value that comes most often; of several, the first in the order of the values."""

    symbol = "MODE"
    words = "the most frequent"
    takes: ClassVar[Takes] = "category"
    gives = "same"

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        known = ~np.isnan(values)
        left, found = values[known], np.full(len(ranges), np.nan)
        for piece, rows, owners in spelled(without(known, ranges)):
            order = np.lexsort((left[rows], owners))
            ordered, whose = left[rows][order], owners[order]
            begins = np.flatnonzero(np.concatenate(([True], (ordered[1:] != ordered[:-1]) | (whose[1:] != whose[:-1])))[: len(order)])
            counts = np.diff(np.concatenate((begins, [len(order)])))
            best = np.lexsort((-counts, whose[begins]))  # stable: of equal counts the smaller value stands first
            firsts = best[np.unique(whose[begins][best], return_index=True)[1]]
            target = found[piece]
            target[whose[begins][firsts]] = ordered[begins[firsts]]
        return found


class MedianAggregation(Aggregation):
    """The value in the middle, or the mean of the two there."""

    symbol = "MEDIAN"
    words = "the median of"
    takes: ClassVar[Takes] = "number"

    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range (see `Aggregation.over`)."""
        known = ~np.isnan(values)
        left, found = values[known], np.full(len(ranges), np.nan)
        inner = without(known, ranges)
        for piece, rows, owners in spelled(inner):
            ordered = left[rows][np.lexsort((left[rows], owners))]
            lengths = inner.lengths[piece]
            begins, some = np.cumsum(lengths) - lengths, lengths > 0
            low, high = (begins + (lengths - 1) // 2)[some], (begins + lengths // 2)[some]
            found[piece][some] = ordered[low] / 2 + ordered[high] / 2
        return found


def _taken(values: np.ndarray, places: np.ndarray, ranges: Ranges) -> np.ndarray:
    found = np.full(len(ranges), np.nan)
    some = ranges.lengths > 0
    found[some] = values[places[some]]
    return found
