"""The public contract suites of aggregations and derivations, as tests that a plugin's author runs on their own.

Example:
    In a test file of the plugin::

        class TestRange(AggregationContract):
            @pytest.fixture
            def aggregation(self):
                return RangeAggregation()
"""

from __future__ import annotations

import numpy as np
import pytest

from deepseek.data.synthesis.aggregations.base import Aggregation, Ranges
from deepseek.data.synthesis.derivations import Derivation

_ROWS = 200
_GIVES = {"number", "category", "boolean", "time", "same"}


class AggregationContract:
    """Tests that hold for every aggregation; a subclass gives the fixture `aggregation`."""

    @pytest.fixture
    def values(self, aggregation: Aggregation) -> np.ndarray:
        """Whole numbers with gaps, which are codes, times and numbers alike; 0 and 1 where booleans are taken."""
        random = np.random.default_rng(0)
        values = random.integers(0, 2 if aggregation.takes == "boolean" else 9, _ROWS)
        return np.where(random.random(_ROWS) < 0.2, np.nan, values)

    @pytest.fixture
    def ranges(self) -> Ranges:
        """Ranges that overlap, in no order, some of them empty."""
        random = np.random.default_rng(1)
        ends = np.sort(random.integers(0, _ROWS + 1, (2, 300)), axis=0)
        ends[1, :20] = ends[0, :20]
        return Ranges(ends[0], ends[1], random.integers(10**6, 10**9, 300))

    def test_says_what_it_takes_and_gives(self, aggregation: Aggregation) -> None:
        """Its names can stand in those of features."""
        assert aggregation.symbol == aggregation.symbol.upper()
        assert aggregation.words
        assert aggregation.gives in _GIVES

    def test_gives_one_value_for_each_range(self, aggregation: Aggregation, values: np.ndarray, ranges: Ranges) -> None:
        """As many numbers as ranges, none of them infinite."""
        with np.errstate(all="ignore"):
            found = aggregation.over(values, ranges)
        assert found.shape == (len(ranges),)
        assert not np.isinf(found.astype(np.float64)).any()

    def test_a_range_hangs_on_its_own_rows_alone(self, aggregation: Aggregation, values: np.ndarray, ranges: Ranges) -> None:
        """Bit for bit: what stands before and behind the range, and which others are asked for, moves nothing."""
        with np.errstate(all="ignore"):
            whole = aggregation.over(values, ranges)
            for place in range(len(ranges)):
                start, stop = ranges.starts[place], ranges.stops[place]
                alone = Ranges(np.array([0]), np.array([stop - start]), ranges.cutoffs[place : place + 1])
                assert np.array_equal(aggregation.over(values[start:stop], alone), whole[place : place + 1], equal_nan=True)

    def test_leaves_the_values_as_they_are(self, aggregation: Aggregation, values: np.ndarray, ranges: Ranges) -> None:
        """Others read the same array."""
        before = values.copy()
        with np.errstate(all="ignore"):
            aggregation.over(values, ranges)
        assert np.array_equal(before, values, equal_nan=True)

    def test_missing_values_are_skipped_as_it_says(self, aggregation: Aggregation, values: np.ndarray, ranges: Ranges) -> None:
        """Where it says so, a missing value makes no difference, also where it is all there is."""
        if not aggregation.skips_missing or aggregation.takes in ("rows", "row_time"):
            return
        known = ~np.isnan(values)
        before = np.concatenate(([0], np.cumsum(known)))
        left = Ranges(before[ranges.starts], before[ranges.stops], ranges.cutoffs)
        with np.errstate(all="ignore"):
            assert np.allclose(aggregation.over(values, ranges), aggregation.over(values[known], left), equal_nan=True)

    def test_chooses_among_its_values_where_it_says_so(self, aggregation: Aggregation, values: np.ndarray, ranges: Ranges) -> None:
        """What gives `same` gives one of its values, as no other has a text."""
        if aggregation.gives != "same":
            return
        found = aggregation.over(values, ranges)
        for value, start, stop in zip(found, ranges.starts, ranges.stops, strict=True):
            assert np.isnan(value) or value in values[start:stop]

    def test_nothing_of_nothing(self, aggregation: Aggregation) -> None:
        """No ranges and no rows are no error."""
        none = np.empty(0, dtype=np.int64)
        assert len(aggregation.over(np.empty(0), Ranges(none, none, none))) == 0
        one = np.zeros(1, dtype=np.int64)
        with np.errstate(all="ignore"):
            assert len(aggregation.over(np.empty(0), Ranges(one, one, one))) == 1


class DerivationContract:
    """Tests that hold for every derivation; a subclass gives the fixture `derivation`."""

    @pytest.fixture
    def values(self, derivation: Derivation) -> np.ndarray:
        """Times of a hundred years, numbers, or 0 and 1, with gaps."""
        random = np.random.default_rng(0)
        span = {"time": (-(10**15), 2 * 10**15), "boolean": (0, 2)}.get(derivation.takes, (-50, 50))
        return np.where(random.random(_ROWS) < 0.2, np.nan, random.integers(*span, _ROWS).astype(np.float64))

    @pytest.fixture
    def cutoffs(self) -> np.ndarray:
        """A time for each row."""
        return np.random.default_rng(1).integers(0, 2 * 10**15, _ROWS)

    def test_treats_each_row_by_itself(self, derivation: Derivation, values: np.ndarray, cutoffs: np.ndarray) -> None:
        """Rows in another order, or alone, come to the same."""
        whole = np.asarray(derivation.apply(values, cutoffs), dtype=np.float64)
        order = np.random.default_rng(2).permutation(_ROWS)
        assert np.array_equal(derivation.apply(values[order], cutoffs[order]), whole[order], equal_nan=True)
        assert np.array_equal(derivation.apply(values[:1], cutoffs[:1]), whole[:1], equal_nan=True)

    def test_moves_with_the_cutoff_only_where_it_says_so(self, derivation: Derivation, values: np.ndarray, cutoffs: np.ndarray) -> None:
        """What does not move is worked out once for all cut-offs."""
        same = np.array_equal(derivation.apply(values, cutoffs), derivation.apply(values, cutoffs + 10**12), equal_nan=True)
        assert same != derivation.moves

    def test_missing_stays_missing_as_it_says(self, derivation: Derivation, values: np.ndarray, cutoffs: np.ndarray) -> None:
        """Where it says so."""
        if derivation.keeps_missing:
            assert np.isnan(derivation.apply(values, cutoffs)[np.isnan(values)]).all()

    def test_leaves_the_values_as_they_are(self, derivation: Derivation, values: np.ndarray, cutoffs: np.ndarray) -> None:
        """Others read the same array."""
        before = values.copy()
        derivation.apply(values, cutoffs)
        assert np.array_equal(before, values, equal_nan=True)
