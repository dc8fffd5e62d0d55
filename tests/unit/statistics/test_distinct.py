import numpy as np

from deepseek.statistics import DistinctCount, mix64


def count(values, capacity, parts=7):
    counter = DistinctCount(capacity)
    for part in np.array_split(mix64(np.asarray(values, dtype=np.uint64), 0), parts):
        counter.update(part)
    return counter


def test_it_is_exact_up_to_its_capacity():
    counter = count(np.tile(np.arange(1000), 3), 1000)
    assert counter.exact
    assert counter.value == 1000


def test_beyond_it_is_near_and_does_not_depend_on_the_batches():
    counter = count(np.tile(np.arange(50_000), 2), 2048)
    assert not counter.exact
    assert abs(counter.value / 50_000 - 1) < 0.08
    assert count(np.arange(50_000), 2048, parts=1).value == counter.value
