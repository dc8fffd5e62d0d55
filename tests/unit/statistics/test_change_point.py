import numpy as np
import pytest

from deepseek.statistics.change_point import change_point


def shares(*parts, seed=0):
    draw = np.random.default_rng(seed)
    return np.concatenate([draw.random(count) < rate for count, rate in parts]).astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_a_drop_is_found_where_it_is(seed):
    found = change_point(shares((2000, 0.9), (600, 0.6), seed=seed))
    assert abs(found.place - 2000) <= 30
    assert found.p < 1e-6
    assert found.before - found.after == pytest.approx(0.3, abs=0.06)


def test_a_rise_is_no_drop():
    assert change_point(shares((1000, 0.6), (1000, 0.9))).p > 0.5


def test_where_nothing_changes_one_in_twenty_is_called_a_change():
    found = [change_point(shares((800, 0.85), seed=seed)).p < 0.05 for seed in range(400)]
    assert np.mean(found) == pytest.approx(0.04, abs=0.025)  # the probability is on the safe side for few rows


def test_losses_of_any_scale():
    draw = np.random.default_rng(0)
    losses = np.concatenate([draw.normal(1e6, 5, 500), draw.normal(1e6 + 10, 5, 300)])
    assert abs(change_point(-losses).place - 500) < 10


def test_too_few_rows_or_rows_that_are_all_alike_say_nothing():
    assert change_point(np.ones(500)) is None
    assert change_point(shares((59, 0.5))) is None
    assert change_point([]) is None
