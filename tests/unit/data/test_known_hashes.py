import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deepseek.data.known_hashes import KnownHashes

HASHES = st.lists(st.one_of(st.integers(0, 20), st.integers(0, 2**64 - 1)), max_size=60).map(
    lambda values: np.array(values, dtype=np.uint64)
)


@given(HASHES, HASHES)
def test_it_finds_what_sorting_finds(held, asked):
    known = KnownHashes(held)
    places = known.places(asked)
    assert places.tolist() == np.flatnonzero(np.isin(asked, held)).tolist()
    both, firsts, _ = np.intersect1d(held, asked, return_indices=True)
    first, every = known.known_by(np.unique(asked[places]))
    assert np.array_equal(np.unique(asked[places]), both)
    assert first.tolist() == firsts.tolist()
    assert sorted(every.tolist()) == np.flatnonzero(np.isin(held, asked)).tolist()
    assert len(known) == len(held)


def test_hashes_whose_lowest_bits_agree_are_told_apart():
    low = np.uint64(7)
    known = KnownHashes(np.array([low, low + np.uint64(1 << 40)], dtype=np.uint64))
    assert known.places(np.array([low + np.uint64(1 << 41), low + np.uint64(1 << 40), low], dtype=np.uint64)).tolist() == [1, 2]
