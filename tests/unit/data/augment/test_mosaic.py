"""Pictures from the quarters of two: pixels, boxes, what is cut and what is left alone."""

from __future__ import annotations

import pytest
import torch

from deepseek.data.augment.base import Draw, Known
from deepseek.data.augment.mosaic import Mosaic
from deepseek.data.augment.one_of import OneOf
from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind

SIDE = 32
SPECS = {
    "photo": InputSpec("photo", Kind.IMAGE, ("photo",), (SIDE, SIDE, 1), "uint8"),
    "target": InputSpec("target", Kind.BOXES, ("left", "top", "right", "bottom", "class", "crowd"), (6,), "float32"),
}
WHOLE = [0.0, 0.0, SIDE, SIDE, 2.0, 0.0]


def pictures(boxes, *, masked=True):
    """A picture of ones and a picture of twos, and so on, with their boxes."""
    rows = len(boxes)
    photo = torch.arange(1, rows + 1, dtype=torch.uint8)[:, None, None, None].expand(rows, SIDE, SIDE, 1).clone()
    target = torch.tensor(boxes, dtype=torch.float32)
    mask = {"target_mask": (target[..., 2] > target[..., 0])} if masked else {}
    return Batch({"photo": photo}, {"target": target, **mask})


def applied(batch, *, seed=0, **given):
    mosaic = Mosaic(SPECS, **{"probability": 1.0, **given})
    return mosaic.apply(batch, Draw(torch.Generator().manual_seed(seed), 0, len(batch)))


def cut_of(photo):
    """Where a picture of ones whose partner is of twos was cut."""
    return int((photo[0, :, 0] == 1).sum()), int((photo[:, 0, 0] == 1).sum())


def test_opposite_quarters_are_swapped_and_nothing_is_lost():
    made = applied(pictures([[WHOLE], [WHOLE]])).inputs["photo"]
    x, y = cut_of(made[0])
    assert SIDE // 4 <= x <= 3 * SIDE // 4
    assert SIDE // 4 <= y <= 3 * SIDE // 4
    assert (made[0, :y, :x] == 1).all()
    assert (made[0, y:, x:] == 1).all()
    assert (made[0, :y, x:] == 2).all()
    assert (made[0, y:, :x] == 2).all()
    assert (made[0] + made[1] == 3).all()


@pytest.mark.parametrize("masked", [True, False])
def test_whole_objects_go_with_their_quarter(masked):
    corners = [[1, 1, 5, 5], [27, 1, 31, 5], [1, 27, 5, 31], [27, 27, 31, 31]]
    batch = pictures([[[*box, label, 0.0] for box in corners] for label in (0.0, 1.0)], masked=masked)
    made = applied(batch).targets["target"]
    found = [{(*map(int, box[:4]), int(box[4])) for box in row.tolist() if box[2] > box[0]} for row in made]
    assert found[0] == {(1, 1, 5, 5, 0), (27, 1, 31, 5, 1), (1, 27, 5, 31, 1), (27, 27, 31, 31, 0)}
    assert found[1] == {(1, 1, 5, 5, 1), (27, 1, 31, 5, 0), (1, 27, 5, 31, 0), (27, 27, 31, 31, 1)}
    assert made.shape[1] == 4


@pytest.mark.parametrize("least", [0.3, 0.9])
def test_of_an_object_that_is_cut_the_larger_piece_counts_or_nothing_is_asked_of_it(least):
    nothing = [0.0] * 6
    made = applied(pictures([[[0, 0, SIDE, 4, 1.0, 0.0]], [nothing]]), least_visible=least)
    (x, _), row = cut_of(made.inputs["photo"][0]), made.targets["target"]
    own, other = row[0, 0].tolist(), row[1, 0].tolist()
    assert own[:5] == [0, 0, x, 4, 1]
    assert other[:5] == [x, 0, SIDE, 4, 1]
    for piece, share in ((own, x / SIDE), (other, 1 - x / SIDE)):
        assert (piece[5] == 0.0) == (share >= least)


@pytest.mark.parametrize("least", [0.05, 0.9])
def test_of_an_object_that_lies_over_the_cut_the_smaller_piece_is_nothing_that_must_not_be_found(least):
    """It is seen in two opposite quarters; at the smaller one an object is to be seen, and nobody may learn that there is none."""
    made = applied(pictures([[WHOLE], [[0.0] * 6]]), least_visible=least)
    for row, photo in zip(made.targets["target"], made.inputs["photo"][..., 0], strict=True):
        found = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        for left, top, right, bottom, _, _ in row.tolist():
            found[int(top) : int(bottom), int(left) : int(right)] = True
        assert torch.equal(found, photo == 1)
        areas = (row[:, 2] - row[:, 0]) * (row[:, 3] - row[:, 1])
        asked = row[:, 5] == 0.0
        assert asked.tolist() == [place == int(areas.argmax()) and float(areas.max()) >= least * SIDE**2 for place in range(len(row))]


def test_a_row_may_have_a_choice_of_its_own_though_boxes_become_more():
    corners = [[1, 1, 5, 5, 0.0, 0.0], [27, 1, 31, 5, 0.0, 0.0], [1, 27, 5, 31, 0.0, 0.0]]
    batch = pictures([[*corners], [[27, 27, 31, 31, 1.0, 0.0], [1, 1, 5, 5, 1.0, 0.0], [27, 1, 31, 5, 1.0, 0.0]]] * 4)
    choice = OneOf(SPECS, methods=[{"type": "mosaic", "probability": 1.0}, {"type": "flip"}], each="row")
    made = choice.apply(batch, Draw(torch.Generator().manual_seed(2), 0, len(batch)))
    boxes, there = made.targets["target"], made.targets["target_mask"]
    assert boxes.shape[:2] == there.shape
    assert torch.equal(there, boxes[..., 2] > boxes[..., 0])
    assert len(set(there.sum(dim=1).tolist())) > 1
    kept = [{(*box,) for box in row.tolist() if box[2] > box[0]} for row in boxes]
    assert [len(row) for row in kept] == there.sum(dim=1).tolist()  # none is there twice


def test_pictures_that_are_not_cut_stay_as_they_were():
    batch = pictures([[WHOLE], [WHOLE], [WHOLE]])
    made = applied(batch, probability=0.0)
    assert torch.equal(made.inputs["photo"], batch.inputs["photo"])
    assert torch.equal(made.targets["target"], batch.targets["target"])
    alone = pictures([[WHOLE]])
    assert torch.equal(applied(alone).targets["target"], alone.targets["target"])


def test_weights_are_those_of_both_by_area():
    batch = pictures([[WHOLE], [WHOLE]])
    made = applied(Batch(batch.inputs, batch.targets, torch.tensor([1.0, 0.0])))
    share = (made.inputs["photo"][0] == 1).float().mean()
    torch.testing.assert_close(made.weight, torch.stack([share, 1 - share]))


def test_what_it_cannot_cut_is_refused():
    with pytest.raises(InputError, match="'age'"):
        Mosaic({**SPECS, "age": InputSpec("age", Kind.NUMBER, ("age",), (1,), "float32")})
    classes = TargetSpec("classes", ("y",), ("a", "b"), (1, 1), 2)
    with pytest.raises(InputError, match="kind 'classes'"):
        Mosaic(SPECS).begin(Known(classes))
