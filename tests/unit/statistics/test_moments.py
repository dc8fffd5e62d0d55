import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepseek.statistics import Moments
from deepseek.statistics import moments as moments_module

_numbers = st.floats(-1e6, 1e6, width=32) | st.just(float("nan"))


@given(arrays(np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=_numbers), st.integers(0, 40))
def test_the_moments_are_numpys_wherever_the_stream_is_cut(values, cut):
    moments, rest = Moments(2), Moments(2)
    moments.update(values[:cut])
    rest.update(values[cut:])
    moments.merge(rest)
    for column in range(2):
        finite = values[np.isfinite(values[:, column]), column]
        assert moments.count[column] == len(finite)
        if len(finite):
            np.testing.assert_allclose(moments.mean[column], finite.mean(), rtol=1e-9, atol=1e-6)
            np.testing.assert_allclose(moments.std()[column], finite.std(), rtol=1e-6, atol=1e-5)
        if len(finite) > 1:
            np.testing.assert_allclose(moments.variance(ddof=1)[column], finite.var(ddof=1), rtol=1e-6, atol=1e-4)


def test_a_large_mean_does_not_swallow_a_small_variance():
    values = 1e9 + np.tile([0.0, 1.0], 5_000)
    moments = Moments()
    for batch in np.split(values, 10):
        moments.update(batch)
    np.testing.assert_allclose(moments.variance(), [0.25], rtol=1e-9)
    assert abs((values**2).mean() - values.mean() ** 2 - 0.25) > 0.1  # sums of squares get it wrong


def test_infinities_and_nan_are_not_counted():
    moments = Moments()
    moments.update([1.0, np.inf, -np.inf, np.nan, 3.0])
    assert moments.count.tolist() == [2]
    assert moments.mean.tolist() == [2.0]


def test_nothing_seen_is_zero_and_json_is_exact():
    moments = Moments(3)
    moments.update(np.empty((0, 3)))
    assert moments.std().tolist() == [0.0, 0.0, 0.0]
    moments.update(np.random.default_rng(0).normal(size=(7, 3)))
    again = Moments.from_json(json.loads(json.dumps(moments.to_json())))
    assert again.variance().tolist() == moments.variance().tolist()
    assert again.mean.tolist() == moments.mean.tolist()


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, 1234.567, -1e-300])
def test_a_constant_has_no_spread_at_all(value):
    moments = Moments(2)
    for rows in (1, 7, 1000, 65536, 3):
        moments.update(np.column_stack([np.full(rows, value), np.where(np.arange(rows) % 2, np.nan, value)]))
    assert moments.mean.tolist() == [value, value]
    assert moments.std().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("rows", [1, 2, 1_000])
def test_rows_without_missing_values_give_the_same_by_the_short_way(rows, monkeypatch):
    values = np.random.default_rng(rows).normal([1e6, 0.0, 0.1], [1e-3, 5.0, 0.0], (rows, 3))
    short, taken = Moments(3), []
    whole = moments_module._whole
    monkeypatch.setattr(moments_module, "_whole", lambda given: (taken.append(len(given)), whole(given))[1])
    short.update(values)
    assert taken == [rows]
    long = Moments(3)
    long.update(np.vstack([values, np.full((1, 3), np.nan)]))
    assert taken == [rows]  # a missing value takes the long way
    assert (short.count == long.count).all()
    np.testing.assert_allclose(short.mean, long.mean, rtol=1e-15)
    np.testing.assert_allclose(short.variance(), long.variance(), rtol=1e-12)
