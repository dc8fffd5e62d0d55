"""One long text as windows: every token predicted once, lanes that go on, shares of ranks, and any start."""

import numpy as np
import pytest
import torch

from deepseek.data.loader import Loader
from deepseek.data.prepared import PreparedDataset
from deepseek.data.token_windows import TokenWindows
from deepseek.data.transforms.base import Ragged
from deepseek.data.transforms.tokenizer import START
from deepseek.errors import InputError


def text_of(count, *, start=False):
    tokens = np.arange(4, 4 + count, dtype=np.int32)
    return PreparedDataset.from_arrays(
        {"text": Ragged(np.concatenate([[START], tokens]).astype(np.int32) if start else tokens, _cut(count + start))}
    )


def _cut(count):
    """The offsets of rows of about five tokens: where rows end must not matter."""
    return np.array([*range(0, count, 5), count], dtype=np.int64)


def predicted(batches):
    """What was predicted, with what stood before it, by lane or window."""
    pairs = []
    for batch in batches:
        mask = batch.targets["target_mask"]
        assert torch.equal(mask, batch.inputs["text_mask"])
        pairs += zip(batch.inputs["text"][mask].tolist(), batch.targets["target"][mask].tolist(), strict=True)
    return pairs


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize(("count", "length", "lanes"), [(23, 4, 3), (24, 4, 3), (7, 10, 2), (5, 2, 16), (40, 7, None), (3, 9, None)])
def test_every_token_is_predicted_once_from_the_one_before(count, length, lanes, start):
    windows = TokenWindows(text_of(count, start=start), "text", length=length, lanes=lanes, measured=True)
    pairs = predicted(Loader(windows, batch_size=5, shuffle=False).batches(0))
    assert sorted(pairs) == [(START if token == 4 else token - 1, token) for token in range(4, 4 + count)]


def test_a_lane_goes_on_from_batch_to_batch():
    windows = TokenWindows(text_of(60), "text", length=4, lanes=3)
    batches = list(Loader(windows, batch_size=3, seed=7).batches(0))
    for lane in range(3):
        ids = torch.cat([batch.inputs["text"][lane][batch.inputs["text_mask"][lane]] for batch in batches]).tolist()
        assert ids[1:] == list(range(ids[1], ids[1] + len(ids) - 1))
    assert [batch.inputs["text_first"].tolist() for batch in batches] == [[True] * 3] + [[False] * 3] * (len(batches) - 1)
    assert all(torch.equal(batch.inputs["text_lane"], torch.eye(3, dtype=torch.bool)) for batch in batches)


def test_ranks_read_the_same_lanes_as_one_would_and_a_resume_begins_anywhere():
    whole = list(Loader(TokenWindows(text_of(60), "text", length=4, lanes=4), batch_size=4).batches(1))
    shares = [list(Loader(TokenWindows(text_of(60), "text", length=4, lanes=4), batch_size=4, rank=r, ranks=2).batches(1)) for r in (0, 1)]
    for batch, one, two in zip(whole, *shares, strict=True):
        for name, tensor in batch.inputs.items():
            assert torch.equal(tensor, torch.cat((one.inputs[name], two.inputs[name])))
    later = list(Loader(TokenWindows(text_of(60), "text", length=4, lanes=4), batch_size=4).batches(1, 2))
    assert all(torch.equal(batch.inputs["text"], again.inputs["text"]) for batch, again in zip(whole[2:], later, strict=True))


def test_windows_that_stand_alone_come_in_a_random_order_at_any_stride():
    windows = TokenWindows(text_of(30), "text", length=4, stride=1)
    assert len(windows) == 27
    batches = list(Loader(windows, batch_size=9, seed=3).batches(0))
    begins = [int(row[0]) for batch in batches for row in batch.inputs["text"]]
    assert sorted(begins) == [START, *range(4, 30)]
    assert begins != sorted(begins)
    assert not any(name.endswith(("_lane", "_first")) for batch in batches for name in batch.inputs)


def test_without_a_token_there_is_nothing_to_predict():
    with pytest.raises(InputError, match="no token"):
        TokenWindows(PreparedDataset.from_arrays({"text": Ragged(np.array([START], np.int32), np.array([0, 1]))}), "text", length=4)
