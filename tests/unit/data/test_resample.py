"""Every class comes equally often, by a pure function of (seed, epoch, position): resumes and ranks see the same rows."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data.loader import Loader
from deepseek.data.prepared import PreparedDataset
from deepseek.data.resample import Resampled
from deepseek.errors import InputError

COUNTS = (70, 20, 7)


def dataset(counts=COUNTS, dtype=np.int64):
    codes = np.repeat(np.arange(len(counts)), counts)
    codes = codes[np.random.default_rng(0).permutation(len(codes))]
    return PreparedDataset.from_arrays({"x": np.arange(len(codes), dtype=np.float32)[:, None]}, {"target": codes.astype(dtype)})


def rows_of(loader, epoch=0, first_step=0):
    return [batch.row.tolist() for batch in loader.batches(epoch, first_step)]


@pytest.mark.parametrize(("how", "each"), [("over", 70), ("under", 7), ("balanced", 97 // 3)])
def test_an_epoch_has_as_many_rows_of_each_class(how, each):
    data = dataset()
    codes = data.column("target")
    loader = Loader(data, batch_size=10, resample=how)
    seen = list(chain(*rows_of(loader)))
    assert np.bincount(codes[seen]).tolist() == [each] * 3
    assert loader.length == 3 * each
    times = np.bincount(seen, minlength=97)
    for code, count in enumerate(COUNTS):
        assert set(times[codes == code].tolist()) <= {each // count, each // count + 1}


def test_without_it_an_epoch_is_the_rows_themselves():
    assert sorted(chain(*rows_of(Loader(dataset(), batch_size=10)))) == list(range(97))


def test_every_batch_holds_the_classes_alike():
    data = dataset()
    codes = data.column("target")
    for rows in rows_of(Loader(data, batch_size=10, resample="over"))[:-1]:
        counts = np.bincount(codes[rows], minlength=3)
        assert counts.max() - counts.min() <= 1


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    how=st.sampled_from(["over", "under", "balanced"]),
    epoch=st.integers(0, 5),
    data=st.data(),
)
def test_any_slice_of_any_epoch_is_a_slice_of_the_whole(counts, how, epoch, data):
    codes = np.repeat(np.arange(len(counts)), counts)
    whole = Resampled(codes, how)
    everything = whole.rows(seed=3, epoch=epoch, start=0, count=len(whole))
    start = data.draw(st.integers(0, len(whole)))
    count = data.draw(st.integers(0, len(whole) - start))
    fresh = Resampled(codes, how).rows(seed=3, epoch=epoch, start=start, count=count)
    assert fresh.tolist() == everything[start : start + count].tolist()


def test_a_class_that_is_cut_short_is_met_whole_over_the_epochs():
    data = dataset()
    codes = data.column("target")
    seen = [row for epoch in range(10) for row in chain(*rows_of(Loader(data, batch_size=10, resample="under"), epoch)) if codes[row] == 0]
    assert len(seen) == 70
    assert set(seen) == set(np.flatnonzero(codes == 0).tolist())


def test_epochs_and_seeds_differ():
    made = Resampled(dataset().column("target"), "over")
    one, two, other = (made.rows(seed=s, epoch=e, start=0, count=210).tolist() for s, e in ((0, 0), (0, 1), (1, 0)))
    assert one != two
    assert one != other


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 40), ranks=st.integers(1, 5), how=st.sampled_from(["over", "under", "balanced"]), epoch=st.integers(0, 2))
def test_ranks_share_the_one_rank_s_batches(size, ranks, how, epoch):
    data = dataset()
    alone = rows_of(Loader(data, batch_size=size, resample=how, prefetch=False), epoch)
    shares = [rows_of(Loader(data, batch_size=size, rank=rank, ranks=ranks, resample=how, prefetch=False), epoch) for rank in range(ranks)]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == alone


@pytest.mark.parametrize("prefetch", [False, True])
def test_a_resume_continues_where_it_stopped(prefetch):
    loader = Loader(dataset(), seed=3, batch_size=7, resample="over", prefetch=prefetch)
    assert rows_of(Loader(dataset(), seed=3, batch_size=7, resample="over", prefetch=prefetch), 2, 5) == rows_of(loader, 2)[5:]


def test_classes_without_rows_are_passed_over_and_two_classes_may_be_floats():
    assert len(Resampled(np.array([0, 0, 2]), "over")) == 4
    loader = Loader(dataset((9, 3), np.float32), batch_size=4, resample="over")
    assert loader.length == 18


def test_what_has_no_classes_is_refused():
    values = PreparedDataset.from_arrays({"x": np.zeros((4, 1), np.float32)}, {"target": np.array([0.5, 1.0, 2.0, 3.0], np.float32)})
    labels = PreparedDataset.from_arrays({"x": np.zeros((4, 1), np.float32)}, {"target": np.zeros((4, 2), np.float32)})
    for data in (values, labels):
        with pytest.raises(InputError, match="cannot be resampled"):
            Loader(data, batch_size=2, resample="over")
    with pytest.raises(InputError, match="cannot be resampled"):
        Loader(dataset(), batch_size=2, shuffle=False, resample="over")
    with pytest.raises(InputError, match="sideways"):
        Resampled(np.array([0, 1]), "sideways")
    with pytest.raises(InputError, match="must lie between"):
        Resampled(np.array([0, 1]), "over").rows(seed=0, epoch=0, start=1, count=2)
