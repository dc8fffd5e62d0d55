from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data.batch import Batch, as_inputs, in_pieces, pad
from deepseek.data.padding import ANSWERED_BYTES, LEAST_ROWS
from deepseek.data.transforms.base import Ragged


def ragged(lengths, dtype=np.int32, shape=()):
    total = sum(lengths)
    values = np.arange(1, total * int(np.prod(shape)) + 1).reshape(total, *shape).astype(dtype)
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), lengths=st.lists(st.integers(0, 5), max_size=8), shape=st.sampled_from([(), (2,)]))
def test_padding_is_row_by_row(data, lengths, shape):
    column = ragged(lengths, np.float32, shape)
    rows = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=6) if lengths else st.just([])), dtype=np.int64)
    values, mask = pad(column, rows)
    longest = max([1, *(lengths[row] for row in rows)])
    assert values.shape == (len(rows), longest, *shape)
    assert mask.dtype == torch.bool
    for place, row in enumerate(rows):
        own = column.values[column.offsets[row] : column.offsets[row + 1]]
        np.testing.assert_array_equal(values[place, : len(own)].numpy(), own)
        assert not values[place, len(own) :].any()
        assert mask[place].tolist() == [True] * len(own) + [False] * (longest - len(own))


def test_what_stands_behind_a_row_never_shows_through():
    values, _ = pad(Ragged(np.array([1.0, np.nan, np.inf], np.float32), np.array([0, 1, 3])), np.array([0, 1]))
    assert values[0].tolist() == [1.0, 0.0]


def test_inputs_share_memory_where_it_can_be_written_to():
    dense, frozen = np.ones((2, 3), np.float32), np.ones(2, np.int32)
    frozen.flags.writeable = False
    inputs = as_inputs({"x": dense, "y": frozen, "t": ragged([2, 1])})
    assert list(inputs) == ["x", "y", "t", "t_mask"]
    assert inputs["x"].data_ptr() == dense.ctypes.data
    assert inputs["y"].data_ptr() != frozen.ctypes.data
    assert inputs["t"].tolist() == [[1, 2], [3, 0]]


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), max_size=20), most=st.integers(1, 60))
def test_pieces_hold_every_row_once_and_little_padding(lengths, most):
    arrays = {"t": ragged(lengths), "x": np.arange(len(lengths))}
    seen = []
    for rows, inputs in in_pieces(arrays, most=most):
        own = np.arange(len(lengths)) if rows is None else rows
        seen += own.tolist()
        assert inputs["x"].tolist() == own.tolist()
        assert inputs["t_mask"].sum(1).tolist() == [lengths[row] for row in own]
        assert inputs["t"][inputs["t_mask"]].tolist() == [
            value for row in own for value in arrays["t"].values[arrays["t"].offsets[row] : arrays["t"].offsets[row + 1]]
        ]
        assert inputs["t"].numel() <= max(most, max(lengths, default=0)) or len(own) <= 1
    assert sorted(seen) == list(range(len(lengths)))


def test_dense_rows_stay_in_one_piece_and_in_order():
    ((rows, inputs),) = in_pieces({"x": np.zeros((10, 1000))}, most=1)
    assert rows is None
    assert inputs["x"].shape == (10, 1000)


@pytest.mark.parametrize("texts", [False, True])
def test_large_rows_come_in_pieces_too(texts):
    photos = np.arange(40, dtype=np.uint8)[:, None] * np.ones(1 << 20, np.uint8)
    arrays = {"photo": photos} | ({"t": ragged([1 + place % 3 for place in range(40)])} if texts else {})
    seen = []
    for rows, inputs in in_pieces(arrays):
        assert inputs["photo"].nbytes <= ANSWERED_BYTES == 8 << 20
        assert inputs["photo"][:, -1].tolist() == rows.tolist()
        seen += rows.tolist()
    assert sorted(seen) == list(range(40))
    assert texts or seen == sorted(seen)


def test_some_rows_go_together_however_large_they_are():
    sizes = [len(inputs["photo"]) for _, inputs in in_pieces({"photo": np.zeros((6, 9 << 20), np.uint8)})]
    assert sizes == [LEAST_ROWS, 2]


def batch(lengths):
    values, mask = pad(ragged(lengths), np.arange(len(lengths)))
    return Batch({"t": values, "t_mask": mask, "x": torch.arange(len(lengths))[:, None]}, {"y": torch.arange(len(lengths))})


def test_pieces_of_a_batch_are_trimmed_to_their_longest_row():
    whole = batch([1, 2, 2, 5, 4])
    parts = whole.split(3)
    assert [tuple(part.inputs["t"].shape) for part in parts] == [(3, 2), (2, 5)]
    assert [tuple(part.inputs["t_mask"].shape) for part in parts] == [(3, 2), (2, 5)]
    assert parts[0].inputs["t"].data_ptr() == whole.inputs["t"].data_ptr()
    assert torch.equal(torch.cat([part.inputs["t"][part.inputs["t_mask"]] for part in parts]), whole.inputs["t"][whole.inputs["t_mask"]])


@pytest.mark.parametrize("lengths", [[], [1]])
def test_trimming_leaves_a_column(lengths):
    assert batch(lengths).trimmed().inputs["t"].shape == (len(lengths), 1)


def test_trimming_touches_no_mask_of_another_kind():
    plain = Batch({"t_mask": torch.ones(2, 3), "u_mask": torch.ones(2, 3, dtype=torch.bool)})
    assert {name: tensor.shape[1] for name, tensor in plain.trimmed().inputs.items()} == {"t_mask": 3, "u_mask": 3}


def test_moving_a_batch_moves_the_mask():
    moved = batch([1, 3]).to("meta")
    assert moved.inputs["t_mask"].device.type == moved.inputs["t"].device.type == "meta"
