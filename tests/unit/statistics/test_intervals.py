import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from deepseek.errors import InputError
from deepseek.statistics.intervals import Interval, bootstrap, mean_bound, wilson


@pytest.mark.parametrize(("successes", "total"), [(0, 10), (10, 10), (37, 120), (1, 4)])
def test_wilson_is_scipys(successes, total):
    theirs = stats.binomtest(successes, total).proportion_ci(method="wilson")
    ours = wilson(successes, total)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_without_rows_a_share_may_be_anything():
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)


def test_the_bootstraps_intervals_hold_the_truth_as_often_as_stated():
    random = np.random.default_rng(0)
    held = 0
    for seed in range(300):
        interval = bootstrap(random.normal(5, 2, (80, 1)) ** 2, lambda means: np.sqrt(means[:, 0]), draws=400, seed=seed)
        held += interval.low <= np.sqrt(29) <= interval.high
    assert 268 <= held <= 298


def test_rows_beyond_the_limit_are_grouped_and_spread_as_before():
    for count in (60_000, 59_999):  # nor is a third left out of what is just too little for a third row in each group
        rows = np.random.default_rng(0).normal(0, 1, (count, 1))
        interval = bootstrap(rows, lambda means: means[:, 0], draws=500)
        assert interval.high - interval.low == pytest.approx(2 * 1.96 / np.sqrt(count), rel=0.1)


def test_zero_is_outside_or_not():
    assert Interval(1, 0.5, 2).excludes_zero
    assert not Interval(1, -0.5, 2).excludes_zero


@pytest.mark.parametrize("ones", [0, 7, 40])
def test_the_bound_of_a_share_is_clopper_and_pearsons(ones):
    rows = np.repeat([1.0, 0.0], [ones, 40 - ones])
    exact = stats.binomtest(ones, 40).proportion_ci(confidence_level=0.9, method="exact").low
    assert mean_bound(rows, worst=0.0, alpha=0.05) == pytest.approx(exact, abs=0.01)


def test_a_mean_of_no_row_is_refused():
    with pytest.raises(InputError, match="no row"):
        bootstrap(np.empty((0, 1)), lambda means: means[:, 0])
    with pytest.raises(InputError, match="no row"):
        mean_bound(np.empty(0), worst=0.0, alpha=0.05)


def test_many_draws_of_many_rows_cost_no_more_and_say_the_same(monkeypatch):
    rows = np.random.default_rng(0).exponential(size=(30_000, 1))
    drawn, make = [], np.random.default_rng

    class Counting:
        def __init__(self, seed):
            self._given = make(seed)

        def multinomial(self, count, share, size):
            drawn.append(count * size)
            return self._given.multinomial(count, share, size=size)

        def __getattr__(self, name):
            return getattr(self._given, name)

    monkeypatch.setattr(np.random, "default_rng", Counting)
    level = 1 - 0.05 / 45
    found = bootstrap(rows, lambda means: means[:, 0], draws=20_000, level=level)
    assert sum(drawn) <= 80_000_000
    reach = NormalDist().inv_cdf((1 + level) / 2) * rows.std() / math.sqrt(len(rows))
    assert found.high - found.low == pytest.approx(2 * reach, rel=0.1)
    assert found.value == rows.mean()
