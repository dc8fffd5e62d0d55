"""Ranges are folded, spelled out and counted as a loop over them would."""

import numpy as np
import pytest

from deepseek.data.synthesis import ranges as module
from deepseek.data.synthesis.aggregations.base import Ranges
from deepseek.data.synthesis.ranges import different, fold, spelled
from deepseek.registry import family


def overlapping(rows, count, seed=0):
    ends = np.sort(np.random.default_rng(seed).integers(0, rows + 1, (2, count)), axis=0)
    return Ranges(ends[0], ends[1], np.zeros(count, dtype=np.int64))


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 100])
def test_different_values_are_counted_in_blocks_as_one_by_one(rows):
    values = np.random.default_rng(rows).integers(0, 6, rows).astype(float)
    few, many = overlapping(rows, 3), overlapping(rows, 200)
    assert int(many.lengths.sum()) > 8 * rows  # so that the blocks are used
    for asked in (few, many):
        expected = [len(set(values[start:stop])) for start, stop in zip(asked.starts, asked.stops, strict=True)]
        assert different(values, asked).tolist() == expected


def test_pieces_are_bounded_and_lose_nothing(monkeypatch):
    monkeypatch.setattr(module, "PAIRS", 50)
    asked = overlapping(100, 40)
    seen = []
    for piece, rows, owners in spelled(asked):
        assert len(rows) <= 50 or piece.stop - piece.start == 1
        seen += [(piece.start + owner, row) for owner, row in zip(owners.tolist(), rows.tolist(), strict=True)]
    assert seen == [(place, row) for place in range(40) for row in range(asked.starts[place], asked.stops[place])]


@pytest.mark.parametrize("name", ["mode", "median"])
def test_pieces_make_no_difference(name, monkeypatch):
    values = np.random.default_rng(0).integers(0, 5, 100).astype(float)
    aggregation, asked = family("aggregation").build(name), overlapping(100, 60)
    whole = aggregation.over(values, asked)
    monkeypatch.setattr(module, "PAIRS", 7)
    assert np.array_equal(aggregation.over(values, asked), whole, equal_nan=True)


def test_the_work_hangs_on_the_rows_and_not_on_the_overlap():
    joined = []

    def join(first, second):
        joined.append(len(first[0]))
        return (first[0] + second[0],)

    rows, count = 1_024, 4_000
    fold((np.ones(rows),), overlapping(rows, count), join=join, empty=(0.0,))
    assert sum(joined) < 11 * (rows + count)  # one by one it would be more than a million


def test_a_small_spread_about_a_large_mean_keeps_its_digits():
    values = 1e9 + np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    asked = Ranges(np.array([0]), np.array([6]), np.array([0]))
    assert family("aggregation").build("std").over(values, asked)[0] == pytest.approx(np.std(values - 1e9, ddof=1), rel=1e-12)
