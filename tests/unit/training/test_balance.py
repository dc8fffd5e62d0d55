"""Who takes how many rows of a batch."""

import itertools

import numpy as np
import pytest

from deepseek.data.loader import Loader
from deepseek.data.prepared import PreparedDataset
from deepseek.distributed import RankContext
from deepseek.errors import InputError
from deepseek.training.balance import Balance, better_shares


def dataset(rows):
    return PreparedDataset.from_arrays({"x": np.arange(rows, dtype=np.float32)})


def test_shares_go_by_speed():
    assert better_shares([128, 128], [1.0, 3.0], whole=256) == [192, 64]
    assert better_shares([10, 10, 10], [1.0, 1.0, 2.0], whole=10) == [4, 4, 2]
    assert better_shares([192, 64], [1.0, 1.0], whole=256) is None


def test_what_is_hardly_better_is_left_alone():
    assert better_shares([128, 128], [1.0, 1.1], whole=256) is None
    assert better_shares([128, 128], [1.0, 1.5], whole=256) == [154, 102]
    assert better_shares([0, 10], [0.0, 1.0], whole=16) is None  # a rank that had no row says nothing


@pytest.mark.parametrize("whole", [3, 7, 16, 1000])
def test_every_rank_has_a_row_and_every_row_a_rank(whole):
    for speeds in itertools.product([1.0, 3.0, 1e-4], repeat=3):
        shares = better_shares([1.0, 1.0, 1.0], [1 / speed for speed in speeds], whole=whole)
        if shares is not None:
            assert sum(shares) == whole
            assert min(shares) >= 1


def test_proportions_are_taken_and_kept():
    loader = Loader(dataset(100), batch_size=10, rank=1, ranks=2)
    decisions = {}
    Balance([3, 1], loader, RankContext(1, 2), decisions=decisions)
    assert loader.share(0) == (7, 10, 10)
    assert decisions == {"shares": [3, 1]}


def test_a_resume_takes_up_what_was_measured_but_for_another_number_of_ranks():
    for ranks, known, wanted in ((2, [9, 1], (9, 1)), (3, [9, 1], (1, 1, 1))):
        loader = Loader(dataset(100), batch_size=10, ranks=ranks)
        Balance("auto", loader, RankContext(0, ranks), decisions={"shares": known})
        assert loader.shares == wanted
    decisions = {"shares": [9, 1]}
    Balance("auto", Loader(dataset(100), batch_size=10), RankContext(), decisions=decisions)
    assert not decisions  # alone, there is nothing to share


def test_proportions_have_to_be_one_a_rank():
    loader = Loader(dataset(100), batch_size=10, ranks=2)
    for wrong in ([1, 2, 3], [1], [0, 1]):
        with pytest.raises(InputError, match=r"train\.shares"):
            Balance(wrong, loader, RankContext(0, 2), decisions={})
