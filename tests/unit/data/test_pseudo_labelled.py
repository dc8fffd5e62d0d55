"""Labelled rows and rows with a model's labels in one dataset: every array, weights, soft targets and texts of any length."""

import numpy as np
import pytest

from deepseek.data.prepared import PreparedDataset
from deepseek.data.pseudo_labelled import PseudoLabels, join_labelled
from deepseek.data.transforms.base import InputSpec, Ragged
from deepseek.fields import Kind

CODES = np.array([2, 0, 1, 2], dtype=np.int64)


def rows(count, *, start=0.0, target=None, weight=None):
    values = start + np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    lengths = np.arange(count) % 3
    text = Ragged(np.arange(lengths.sum(), dtype=np.int32) + int(start), np.concatenate([[0], np.cumsum(lengths)]))
    return PreparedDataset.from_arrays({"x": values, "text": text}, {} if target is None else {"target": target}, weight=weight)


def given(places, labels, *, weights=None, shares=None):
    weights = np.ones(len(places), np.float32) if weights is None else np.array(weights, np.float32)
    return PseudoLabels(np.array(places), np.array(labels), weights, shares)


def test_every_array_of_both_comes_in_order(tmp_path):
    more = rows(6, start=100)
    made = join_labelled(tmp_path / "d", rows(4, target=CODES), more, given=given([1, 4, 5], [0, 2, 1]), classes=3)
    assert len(made) == 7
    batch = made.take(np.arange(7))
    assert batch.inputs["x"][:, 0].tolist() == [0, 2, 4, 6, 102, 108, 110]
    assert batch.targets["target"].tolist() == [2, 0, 1, 2, 0, 2, 1]
    assert batch.weight is None
    whole = more.ragged("text", np.array([1, 4, 5]))
    assert made.ragged("text", np.array([4, 5, 6])).values.tolist() == whole.values.tolist()
    assert made.source_rows.tolist() == [0, 1, 2, 3, -2, -5, -6]


def test_weights_stand_beside_those_of_labelled_rows(tmp_path):
    plain = join_labelled(tmp_path / "a", rows(4, target=CODES), rows(2), given=given([0, 1], [0, 1], weights=[0.5, 0.25]), classes=3)
    assert plain.take(np.arange(6)).weight.tolist() == [1, 1, 1, 1, 0.5, 0.25]
    own = np.array([0.5, 1.5, 1, 1], np.float32)
    both = join_labelled(tmp_path / "b", rows(4, target=CODES, weight=own), rows(2), given=given([0, 1], [0, 1]), classes=3)
    assert both.take(np.arange(6)).weight.tolist() == [0.5, 1.5, 1, 1, 1, 1]


def test_soft_labels_turn_codes_into_shares(tmp_path):
    shares = np.array([[0.2, 0.5, 0.3]], np.float32)
    made = join_labelled(tmp_path / "d", rows(4, target=CODES), rows(2), given=given([1], [1], shares=shares), classes=3)
    target = made.take(np.arange(5)).targets["target"].numpy()
    assert target == pytest.approx(np.vstack([np.eye(3)[CODES], shares]))


def test_of_two_classes_the_share_of_the_second_is_learned(tmp_path):
    known = np.array([0, 1, 1, 0], np.float32)
    shares = np.array([[0.2, 0.8]], np.float32)
    soft = join_labelled(tmp_path / "a", rows(4, target=known), rows(2), given=given([0], [1], shares=shares), classes=2)
    assert soft.take(np.arange(5)).targets["target"].tolist() == pytest.approx([0, 1, 1, 0, 0.8])
    hard = join_labelled(tmp_path / "b", rows(4, target=known), rows(2), given=given([0], [1]), classes=2)
    assert hard.take(np.arange(5)).targets["target"].tolist() == [0, 1, 1, 0, 1]


def test_an_input_may_be_called_weight(tmp_path):
    spec = InputSpec("weight", Kind.NUMBER, ("weight",), (1,), "float32")
    labelled, more = (
        PreparedDataset.from_arrays({"weight": np.full((2, 1), value, np.float32)}, target, specs={"weight": spec})
        for value, target in ((7, {"target": np.array([0, 1])}), (8, {}))
    )
    made = join_labelled(tmp_path / "d", labelled, more, given=given([0], [1], weights=[0.5]), classes=2)
    batch = made.take(np.arange(3))
    assert batch.inputs["weight"][:, 0].tolist() == [7, 7, 8]
    assert batch.weight.tolist() == [1, 1, 0.5]
