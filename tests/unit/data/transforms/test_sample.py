from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data.transforms.sample import RowSample, quantiles_of


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=12))
def test_the_sample_does_not_depend_on_batches(sizes):
    values = np.arange(sum(sizes), dtype=float)[:, None]
    cut, whole = RowSample(1, limit=100), RowSample(1, limit=100)
    for part in np.split(values, np.cumsum(sizes)[:-1]):
        cut.add(part)
    whole.add(values)
    np.testing.assert_array_equal(cut.values(), whole.values())
    assert len(whole.values()) == min(100, len(values))


def test_the_sample_is_uniform_and_bounded():
    sample = RowSample(1, limit=2000)
    for start in range(0, 100_000, 1000):
        sample.add(np.arange(start, start + 1000, dtype=float)[:, None])
    values = np.sort(sample.values()[:, 0])
    assert len(values) == 2000
    assert len(set(values)) == 2000
    assert np.abs(values / 100_000 - np.linspace(0, 1, 2000)).max() < 0.04  # Kolmogorov-Smirnov, far beyond the 0.1 % bound


def test_below_the_limit_quantiles_are_exact():
    values = np.random.default_rng(1).normal(size=(5000, 2))
    sample = RowSample(2)
    sample.add(values)
    np.testing.assert_array_equal(quantiles_of(sample.values(), np.array([0.1, 0.5])), np.quantile(values, [0.1, 0.5], axis=0))
