from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data.windows.places import TimeSplit, window_places
from deepseek.data.windows.steps import lay_out, series_codes
from deepseek.errors import DataError, InputError


def laid(codes, moments, *, grid="1", gaps="fill", keys=None):
    codes, moments = np.array(codes), np.array(moments)
    keys = keys or tuple((code,) for code in range(codes.max() + 1))
    return lay_out(codes, moments, keys=keys, grid=grid, gaps=gaps, numbers=True, what="t")


def test_rows_in_any_order_become_series_after_series():
    steps = laid([1, 0, 1, 0], [6, 3, 5, 2])
    assert steps.rows.tolist() == [3, 1, 2, 0]
    assert steps.starts.tolist() == [0, 2, 4]
    assert steps.series.tolist() == [0, 0, 1, 1]


def test_places_are_where_each_row_went():
    steps = laid([1, 0, 1, 0], [6, 3, 5, 2])
    assert steps.rows[steps.places(4)].tolist() == [0, 1, 2, 3]


def test_gaps_are_steps_without_a_row_or_refused():
    steps = laid([0, 0, 0, 0], [1, 2, 4, 5])
    assert steps.rows.tolist() == [0, 1, -1, 2, 3]
    assert steps.filled == 1
    with pytest.raises(DataError, match="1 of 5 steps of 1 have no row; the first gap is after 2"):
        laid([0, 0, 0, 0], [1, 2, 4, 5], gaps="fail")


def test_more_gaps_than_rows_are_another_frequency():
    with pytest.raises(DataError, match="have no row") as caught:
        laid([0, 0, 0], [1, 2, 100])
    assert "data.frequency" in str(caught.value.hint)


def test_dates_as_numbers_are_told_from_steps():
    with pytest.raises(DataError, match="the first gap is after 20240131") as caught:
        laid([0] * 5, [20240130, 20240131, 20240201, 20240202, 20240203])
    assert "write dates as 2024-01-31" in str(caught.value.hint)


def test_a_moment_that_stands_twice_is_refused():
    with pytest.raises(DataError, match="1 rows have a moment of 't' that their series has already, the first of them 2") as caught:
        laid([0, 0, 0], [1, 2, 2])
    assert "data.series" in str(caught.value.hint)


def test_series_are_told_apart_by_several_columns():
    codes, keys = series_codes(pa.table({"shop": ["b", "a", "b", "b"], "item": [1, 1, 2, 1]}), ("shop", "item"))
    assert codes.tolist() == [0, 1, 2, 0]
    assert keys == (("b", 1), ("a", 1), ("b", 2))


class TestSplit:
    def test_periods_follow_each_other_the_same_in_every_series(self):
        steps = laid([0] * 10 + [1] * 5, [*range(10), *range(5, 10)])
        parts = TimeSplit(0.6, 0.2, 0.2).of_steps(steps)
        assert parts.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 0, 1, 1, 2, 2]

    def test_moments_say_where_periods_begin_and_end(self):
        parts = TimeSplit(train_from="1", validation_from="4", test_from="6", until="8").of_steps(laid([0] * 10, range(10)))
        assert parts.tolist() == [-1, 0, 0, 0, 1, 1, 2, 2, -1, -1]

    def test_without_validation_training_ends_where_the_test_begins(self):
        parts = TimeSplit(0.8, 0, 0.2, test_from="7").of_steps(laid([0] * 10, range(10)))
        assert parts.tolist() == [0] * 7 + [2] * 3

    def test_moments_out_of_order_are_refused(self):
        with pytest.raises(InputError, match="not in order"):
            TimeSplit(validation_from="6", test_from="4").of_steps(laid([0] * 10, range(10)))


class TestPlaces:
    def test_every_target_step_lies_in_its_part_and_the_context_may_reach_back(self):
        steps = laid([0] * 20, range(20))
        parts = np.array([0] * 10 + [1] * 5 + [2] * 5, dtype=np.int8)
        found = window_places(steps, parts, np.ones(20, dtype=bool), context=4, horizon=2)
        for number, name in enumerate(("train", "validation", "test")):
            starts = found[name].starts
            assert len(starts)
            for start in starts:
                assert set(parts[start + 4 : start + 6]) == {number}
        assert found["train"].starts.tolist() == list(range(5))
        assert found["validation"].starts.tolist() == [6, 7, 8, 9]  # the context is of the training period

    def test_no_window_straddles_two_series(self):
        steps = laid([0] * 8 + [1] * 8, [*range(8), *range(8)])
        starts = window_places(steps, np.zeros(16, dtype=np.int8), np.ones(16, dtype=bool), context=3, horizon=2)["train"].starts
        assert starts.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]

    def test_windows_whose_future_is_unknown_are_left_out_and_counted(self):
        known = np.ones(10, dtype=bool)
        known[5:7] = False
        found = window_places(laid([0] * 10, range(10)), np.zeros(10, dtype=np.int8), known, context=3, horizon=2)["train"]
        assert 2 not in found.starts
        assert found.empty == 1

    def test_series_too_short_are_counted(self):
        steps = laid([0] * 8 + [1] * 3, [*range(8), *range(3)])
        found = window_places(steps, np.zeros(11, dtype=np.int8), np.ones(11, dtype=bool), context=3, horizon=2)["train"]
        assert found.short == 1

    def test_no_window_at_all_is_an_error_that_says_what_to_do(self):
        with pytest.raises(DataError, match=r"no window of 9 \+ 2 steps fits") as caught:
            window_places(laid([0] * 10, range(10)), np.zeros(10, dtype=np.int8), np.ones(10, dtype=bool), context=9, horizon=2)
        assert "context_length" in str(caught.value.hint)
