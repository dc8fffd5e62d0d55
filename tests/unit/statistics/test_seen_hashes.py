import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deepseek.statistics import SeenHashes


@given(st.lists(st.lists(st.integers(0, 30), max_size=20), max_size=10))
def test_repeats_are_found_as_a_set_would_find_them(batches):
    seen, truth = SeenHashes(), set()
    for batch in batches:
        wanted = []
        for value in batch:
            wanted.append(value in truth)
            truth.add(value)
        assert seen.add(np.array(batch, dtype=np.uint64)).tolist() == wanted
    assert len(seen) == len(truth)


def test_the_runs_stay_few():
    seen = SeenHashes()
    for start in range(0, 100_000, 100):
        seen.add(np.arange(start, start + 100, dtype=np.uint64))
    assert len(seen) == 100_000
    assert len(seen._runs) <= 17
