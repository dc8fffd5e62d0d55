from __future__ import annotations

import threading
import tracemalloc
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data.loader import Loader, rows_within
from deepseek.data.prepared import PreparedDataset
from deepseek.data.transforms.base import Ragged
from deepseek.errors import InputError


def dataset(rows):
    return PreparedDataset.from_arrays({"x": np.arange(rows, dtype=np.float32)[:, None]}, {"y": np.arange(rows)})


def rows_of(loader, epoch=0, first_step=0):
    return [batch.row.tolist() for batch in loader.batches(epoch, first_step)]


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 60), size=st.integers(1, 20), ranks=st.integers(1, 7), shuffle=st.booleans())
def test_ranks_share_the_one_rank_s_batches(rows, size, ranks, shuffle):
    arguments = {"batch_size": size, "shuffle": shuffle, "prefetch": False}
    data = dataset(rows)
    alone = rows_of(Loader(data, **arguments))
    shares = [rows_of(Loader(data, rank=rank, ranks=ranks, **arguments)) for rank in range(ranks)]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == alone
    seen = sorted(chain(*alone))
    assert len(set(seen)) == len(seen) == rows
    assert all(max(map(len, parts)) - min(map(len, parts)) <= 1 for parts in zip(*shares, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 60), size=st.integers(1, 20), least=st.integers(0, 2), shuffle=st.booleans(),
    shares=st.lists(st.integers(1, 9), min_size=1, max_size=5), other=st.lists(st.integers(1, 9), min_size=5, max_size=5),
)  # fmt: skip
def test_uneven_shares_are_the_same_batches_in_the_same_steps(rows, size, least, shuffle, shares, other):
    ranks = len(shares)
    least = least if min(rows, size) >= least * ranks else 0
    arguments = {"batch_size": size, "shuffle": shuffle, "prefetch": False}
    data = dataset(rows)
    alone = rows_of(Loader(data, **arguments, least=least * ranks))
    loaders = [Loader(data, rank=rank, ranks=ranks, shares=shares, least=least, **arguments) for rank in range(ranks)]
    for now in (shares, other[:ranks]):
        for loader in loaders:
            loader.divide(now)
        parts = [rows_of(loader) for loader in loaders]
        assert [list(chain(*each)) for each in zip(*parts, strict=True)] == alone
        assert all(len(part) >= least for each in parts for part in each)
        if not least:
            ideal = [len(alone[0]) * share / sum(now) for share in now]
            assert all(abs(len(part[0]) - wanted) < 1 for part, wanted in zip(parts, ideal, strict=True))


def test_shares_are_one_a_rank():
    for wrong in ([1], [1, 0], [1, 1, 1]):
        with pytest.raises(InputError, match="for each rank"):
            Loader(dataset(10), batch_size=4, ranks=2, shares=wrong)


@pytest.mark.parametrize("prefetch", [False, True])
def test_a_resume_continues_where_it_stopped(prefetch):
    loader = Loader(dataset(100), seed=3, batch_size=7, prefetch=prefetch)
    assert rows_of(loader, epoch=2, first_step=5) == rows_of(loader, epoch=2)[5:]
    assert rows_of(loader, epoch=0) != rows_of(loader, epoch=1)
    assert rows_of(loader, epoch=0, first_step=loader.steps) == []


def test_evaluation_is_in_order():
    assert rows_of(Loader(dataset(5), batch_size=2, shuffle=False)) == [[0, 1], [2, 3], [4]]


def test_a_share_says_where_it_lies():
    loader = Loader(dataset(5), batch_size=4, rank=1, ranks=2)
    assert [loader.share(step) for step in range(loader.steps)] == [(2, 4, 4), (0, 1, 1)]


def test_tensors_belong_to_their_rows():
    for batch in Loader(dataset(50), batch_size=8).batches(0):
        assert torch.equal(batch.inputs["x"][:, 0].long(), batch.row)
        assert torch.equal(batch.targets["y"], batch.row)


class Failing(PreparedDataset):
    fails_at = 3

    def take(self, rows, *, pin=False):
        self.fails_at -= 1
        if self.fails_at < 0:
            raise OSError("the disk is gone")
        return super().take(rows, pin=pin)


@pytest.mark.parametrize("prefetch", [False, True])
def test_an_error_reaches_the_consumer(prefetch):
    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        seen.extend(Loader(Failing.from_arrays({"x": np.zeros((50, 20_000))}), batch_size=5, prefetch=prefetch).batches(0))
    assert len(seen) == 3


class Counting(PreparedDataset):
    calls = 0

    def take(self, rows, *, pin=False):
        self.calls += 1
        return super().take(rows, pin=pin)


def test_small_batches_are_gathered_together_and_large_ones_are_not():
    small = Counting.from_arrays({"x": np.zeros((200, 1))})
    assert len(rows_of(Loader(small, batch_size=2))) == 100
    assert small.calls == 2
    large = Counting.from_arrays({"x": np.zeros((20, 40_000))})
    rows_of(Loader(large, batch_size=2))
    assert large.calls == 10


def test_a_batch_lies_where_it_lay_before_a_resume():
    loader = Loader(dataset(200), batch_size=3)
    places = [batch.inputs["x"].storage_offset() for batch in loader.batches(0)]
    assert [batch.inputs["x"].storage_offset() for batch in loader.batches(0, 17)] == places[17:]


def test_a_thread_ends_with_its_iterator():
    before = threading.active_count()
    batches = Loader(dataset(1000), batch_size=2, prefetch=True).batches(0)
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before


def test_auto_starts_a_thread_only_where_gathering_is_costly(monkeypatch):
    loader = Loader(dataset(100), batch_size=2)
    assert rows_of(loader)
    assert loader._costly is False
    monkeypatch.setattr("deepseek.data.loader.COSTLY_S", 0.0)
    eager = Loader(dataset(100), batch_size=2)
    assert rows_of(eager) == rows_of(loader)
    assert eager._costly is True


def test_waiting_is_counted():
    loader = Loader(dataset(100), batch_size=10)
    rows_of(loader)
    assert loader.batches_read == 10
    assert 0 < loader.wait_s < 1


def test_memory_does_not_grow():
    loader = Loader(dataset(20_000), batch_size=100, prefetch=False)
    rows_of(loader)
    tracemalloc.start()
    for epoch in range(3):
        for _ in loader.batches(epoch):
            pass
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 4 * 20_000 * 8 + 100_000  # the cache of orders, and nothing a batch


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"batch_size": 1, "rank": 2, "ranks": 2}])
def test_settings_that_yield_nothing_are_errors(arguments):
    with pytest.raises(InputError):
        Loader(dataset(10), **arguments)


@settings(max_examples=80, deadline=None)
@given(rows=st.integers(2, 60), size=st.integers(2, 20), ranks=st.integers(1, 3), shuffle=st.booleans())
def test_no_share_is_smaller_than_asked_for(rows, size, ranks, shuffle):
    arguments = {"batch_size": size, "shuffle": shuffle, "prefetch": False, "least": 2}
    data = dataset(rows)
    if min(rows, size) < 2 * ranks:
        with pytest.raises(InputError, match=f"each of {ranks} ranks needs 2 rows of every batch"):
            Loader(data, ranks=ranks, **arguments)
        return
    loaders = [Loader(data, rank=rank, ranks=ranks, **arguments) for rank in range(ranks)]
    shares = [rows_of(loader) for loader in loaders]
    assert all(len(part) >= 2 for share in shares for part in share)
    assert sorted(chain(*chain(*shares))) == list(range(rows))
    assert all(len(share) == loaders[0].steps for share in shares)
    plain = rows_of(Loader(data, batch_size=size, shuffle=shuffle, prefetch=False))
    joined = [list(chain(*parts)) for parts in zip(*shares, strict=True)]
    assert joined[:-1] == plain[: len(joined) - 1]
    assert len(plain) - len(joined) == (0 < rows % size < 2 * ranks)


def test_a_batch_is_cut_without_pieces_that_are_too_small():
    batch = dataset(7).take(np.arange(7))
    assert [len(part) for part in batch.split(2)] == [2, 2, 2, 1]
    assert [len(part) for part in batch.split(2, least=2)] == [2, 2, 3]
    assert [len(part) for part in batch.split(1, least=2)] == [2, 2, 3]
    assert [len(part) for part in dataset(1).take([0]).split(4, least=2)] == [1]
    assert torch.equal(torch.cat([part.row for part in batch.split(3, least=2)]), batch.row)


def texts(rows, seed=0):
    """Rows of skewed length, as texts have."""
    lengths = np.random.default_rng(seed).lognormal(2.0, 1.0, rows).astype(np.int64) + 1
    values = np.repeat(np.arange(rows), lengths).astype(np.int32)
    return PreparedDataset.from_arrays({"t": Ragged(values, np.concatenate([[0], np.cumsum(lengths)]))}, {"y": np.arange(rows)})


def padded_share(loader):
    real = total = 0
    for batch in loader.batches(0):
        real += int(batch.inputs["t_mask"].sum())
        total += batch.inputs["t_mask"].numel()
    return 1 - real / total


def test_grouping_by_length_saves_padding():
    data = texts(4_000)
    assert padded_share(Loader(data, batch_size=32, group_lengths=False)) > 0.6
    assert padded_share(Loader(data, batch_size=32)) < 0.2
    assert padded_share(Loader(data, batch_size=32, shuffle=False)) > 0.6
    assert padded_share(Loader(data, batch_size=32, shuffle=False, group_lengths=True)) < 0.2


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 80), size=st.integers(1, 12), ranks=st.integers(1, 5), shuffle=st.booleans(),
    least=st.integers(0, 2), window=st.integers(1, 5), epoch=st.integers(0, 2), first=st.integers(0, 8),
)  # fmt: skip
def test_grouped_batches_are_exactly_once_shared_and_resumable(rows, size, ranks, shuffle, least, window, epoch, first):
    least = least if min(rows, size) >= least * ranks else 0
    data = texts(rows, seed=rows)
    arguments = {"batch_size": size, "shuffle": shuffle, "prefetch": False, "group_lengths": True, "seed": 7}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepseek.data.loader.GROUPED_BATCHES", window)
        plain = Loader(data, **arguments, least=least * ranks)
        alone = rows_of(plain, epoch)
        shares = [rows_of(Loader(data, rank=rank, ranks=ranks, least=least, **arguments), epoch) for rank in range(ranks)]
        assert rows_of(Loader(data, **arguments, least=least * ranks), epoch, first) == alone[first:]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == alone
    seen = list(chain(*alone))
    assert len(set(seen)) == len(seen) == rows
    for batch in plain.batches(epoch):
        assert torch.equal(batch.inputs["t"][:, 0], batch.row.int())


def test_epochs_group_differently():
    loader = Loader(texts(200), batch_size=8)
    assert rows_of(loader, 0) != rows_of(loader, 1)
    assert rows_of(loader, 0) == rows_of(Loader(texts(200), batch_size=8), 0)


def test_rows_of_one_length_keep_their_order():
    loader = Loader(dataset(50), batch_size=8, group_lengths=True)
    assert not loader.group_lengths
    assert rows_of(loader) == rows_of(Loader(dataset(50), batch_size=8))


def test_long_rows_make_small_batches_for_answering():
    long = PreparedDataset.from_arrays({"t": Ragged(np.zeros(70_001, np.int32), np.array([0, 70_000, 70_001]))})
    assert rows_within(long, 4096) == 1
    assert rows_within(texts(10), 4096) == 4096
    assert rows_within(dataset(5), 4096) == 4096
