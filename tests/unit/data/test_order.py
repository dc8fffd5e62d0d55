from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepseek.data.order as module
from deepseek.data.order import by_length, order
from deepseek.errors import InputError


@pytest.fixture
def small_windows(monkeypatch):
    """Blocks of 16 and windows of 8 blocks, so that the two levels show on few rows."""
    monkeypatch.setattr(module, "BLOCK_ROWS", 16)
    monkeypatch.setattr(module, "WINDOW_BLOCKS", 8)
    monkeypatch.setattr(module, "WINDOW_ROWS", 128)
    module._window.cache_clear()
    module._blocks.cache_clear()
    yield
    module._window.cache_clear()
    module._blocks.cache_clear()


@pytest.mark.usefixtures("small_windows")
def test_every_row_comes_once_and_slices_agree_with_the_whole():
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 2000), st.integers(-5, 2**64), st.integers(0, 10), st.data())
    def check(rows, seed, epoch, data):
        whole = order(rows, seed=seed, epoch=epoch)
        assert np.array_equal(np.sort(whole), np.arange(rows))
        start = data.draw(st.integers(0, rows))
        count = data.draw(st.integers(0, rows - start))
        assert np.array_equal(order(rows, seed=seed, epoch=epoch, start=start, count=count), whole[start : start + count])

    check()


@pytest.mark.usefixtures("small_windows")
def test_rows_sorted_by_class_come_mixed():
    classes = (order(4000, seed=0, epoch=0) >= 2000).astype(float)
    shares = classes[:3968].reshape(-1, 64).mean(axis=1)
    assert shares.min() > 0.05
    assert shares.max() < 0.95


@pytest.mark.usefixtures("small_windows")
def test_a_window_reads_few_blocks():
    touched = np.unique(order(100_000, seed=0, epoch=0, start=0, count=128) // 16)
    assert len(touched) == 8


def test_epochs_and_seeds_differ_and_the_same_is_the_same():
    first = order(1000, seed=1, epoch=0)
    assert np.array_equal(first, order(1000, seed=1, epoch=0))
    for other in (order(1000, seed=1, epoch=1), order(1000, seed=2, epoch=0)):
        assert (first == other).mean() < 0.02


def test_the_order_is_the_same_on_every_machine():
    assert order(8, seed=7, epoch=3).tolist() == [2, 5, 7, 3, 0, 6, 4, 1]


def test_positions_are_uniform():
    places = np.array([np.flatnonzero(order(10, seed=seed, epoch=0) == 3)[0] for seed in range(3000)])
    counts = np.bincount(places, minlength=10)
    assert ((counts - 300) ** 2 / 300).sum() < 30  # chi-square, 9 degrees of freedom, far beyond the 0.1 % bound


def test_a_huge_epoch_costs_a_window():
    rows = order(10**9, seed=0, epoch=0, start=987_654_321, count=10)
    assert len(set(rows.tolist())) == 10
    assert rows.max() < 10**9


def test_what_is_returned_may_be_written_to():
    rows = order(10, seed=0, epoch=0)
    rows[:] = 0
    assert sorted(order(10, seed=0, epoch=0).tolist()) == list(range(10))


def test_a_slice_outside_is_an_error():
    with pytest.raises(InputError, match="positions 5 to 12 of an epoch of 10"):
        order(10, seed=0, epoch=0, start=5, count=7)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 9), batches=st.integers(1, 9), last=st.integers(0, 8), seed=st.integers(0, 5))
def test_batches_of_like_length_hold_every_row_and_overlap_nowhere(size, batches, last, seed):
    sizes = [size] * batches + [last] * (last > 0)
    rows = np.arange(sum(sizes)) * 3
    lengths = np.random.default_rng(seed).integers(1, 20, len(rows))
    grouped = by_length(rows, lengths, sizes, seed=seed, epoch=0, first_step=0)
    assert sorted(grouped.tolist()) == rows.tolist()
    parts = np.split(lengths[grouped // 3], np.cumsum(sizes)[:-1])
    assert all((np.diff(part) >= 0).all() for part in parts)
    spans = sorted((part.min(), part.max()) for part in parts)
    assert all(high <= low for (_, high), (low, _) in pairwise(spans))


def test_batches_of_like_length_come_in_another_order_each_time():
    lengths = np.arange(64)
    firsts = [
        by_length(lengths, lengths, [8] * 8, seed=seed, epoch=epoch, first_step=first)[::8].tolist()
        for seed, epoch, first in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 64))
    ]
    assert len({tuple(first) for first in firsts}) == 4
    assert all(first != sorted(first) for first in firsts)


def test_the_batch_of_another_size_holds_any_length():
    lengths = np.arange(42)
    odd = {int(by_length(lengths, lengths, [8] * 5 + [2], seed=seed, epoch=0, first_step=0)[-1]) // 8 for seed in range(40)}
    assert len(odd) > 3
