import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deepseek.statistics import QuantileSample, mix64


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=200), st.floats(0, 1))
def test_a_short_stream_has_numpys_quantiles(values, probability):
    sample = QuantileSample(200)
    sample.update(values)
    assert sample.exact
    assert sample.quantiles(probability) == np.quantile(np.array(values), probability)


@given(st.lists(st.integers(0, 500), max_size=8), st.integers(1, 60))
def test_the_sample_does_not_depend_on_the_cut_into_batches(cuts, capacity):
    values = np.arange(500.0)
    whole, parts = QuantileSample(capacity), QuantileSample(capacity)
    whole.update(values)
    for part in np.split(values, sorted(cuts)):
        parts.update(part)
    assert whole.values().tolist() == parts.values().tolist()
    assert len(whole.values()) == min(capacity, 500)


def test_a_long_stream_is_within_five_standard_errors():
    values = np.random.default_rng(1).permutation(200_000) / 200_000
    sample = QuantileSample(10_000)
    for part in np.split(values, 40):
        sample.update(part)
    assert not sample.exact
    wanted = np.array([0.01, 0.25, 0.5, 0.9])
    error = np.sqrt(wanted * (1 - wanted) / 10_000)
    assert (np.abs(sample.quantiles(wanted) - wanted) < 5 * error).all()


def test_memory_is_bounded():
    sample = QuantileSample(100)
    for _ in range(50):
        sample.update(np.arange(1_000.0))
        assert sum(map(len, sample._keys)) <= 200


def test_missing_values_are_passed_over_and_nothing_gives_nan():
    sample = QuantileSample()
    sample.update([np.nan, np.inf])
    assert sample.count == 0
    assert np.isnan(sample.quantiles([0.5])).all()
    sample.update([np.nan, 4.0])
    assert sample.quantiles([0.0, 1.0]).tolist() == [4.0, 4.0]


def test_mix64_is_frozen_and_differs_by_seed():
    keys = mix64(np.arange(3, dtype=np.uint64), 0)
    assert keys.tolist() == [7618332539167781639, 10628671376714506722, 4069209641818996814]
    assert len(np.unique(mix64(np.arange(100_000, dtype=np.uint64), 7))) == 100_000
    assert not np.isin(mix64(np.arange(1_000, dtype=np.uint64), 8), mix64(np.arange(1_000, dtype=np.uint64), 9)).any()
    assert mix64(np.arange(1, dtype=np.uint64), -1).tolist() == mix64(np.arange(1, dtype=np.uint64), 2**64 - 1).tolist()
