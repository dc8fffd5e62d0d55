"""Bootstrap intervals of numbers that take weights."""

import math

import numpy as np
import pytest

from deepseek.statistics.resampling import weighted_bootstrap


def test_the_interval_of_a_mean_is_the_textbooks():
    values = np.random.default_rng(0).normal(3, 2, 2_000)
    found = weighted_bootstrap(lambda counts: float((counts * values).sum() / counts.sum()), 2_000, repeats=400)
    half = 1.96 * values.std() / math.sqrt(2_000)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.2 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.2 * half)


def test_a_sample_of_more_rows_gives_a_narrower_interval():
    values = np.random.default_rng(0).random(500)
    wide, narrow = (weighted_bootstrap(lambda c: float((c * values).sum() / 500), 500, of_rows=rows) for rows in (None, 50_000))
    assert (narrow.high - narrow.low) == pytest.approx((wide.high - wide.low) / 10)


def test_the_same_seed_gives_the_same_interval_and_nan_gives_none():
    values = np.random.default_rng(0).random(50)
    measure = lambda counts: float((counts * values).sum())  # noqa: E731
    assert weighted_bootstrap(measure, 50, seed=3) == weighted_bootstrap(measure, 50, seed=3) != weighted_bootstrap(measure, 50, seed=4)
    assert math.isnan(weighted_bootstrap(lambda counts: math.nan, 50).low)
