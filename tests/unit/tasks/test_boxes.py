from __future__ import annotations

import numpy as np
import pytest
import torch

from deepseek.data.targets import TargetSpec
from deepseek.tasks.box_answers import Selection, box_table, select
from deepseek.tasks.boxes import assign, complete_overlaps, overlaps, suppress


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def random_boxes(*shape):
    corner, size = torch.rand(*shape, 2) * 40, torch.rand(*shape, 2) * 20 + 1
    return torch.cat([corner, corner + size], dim=-1)


def greedy(boxes, scores, *, least, overlap, most):
    """The plain loop over answers, the surest first."""
    answers = sorted(
        ((float(scores[place, code]), place, code) for place in range(scores.shape[0]) for code in range(scores.shape[1])), reverse=True
    )
    kept = []
    for score, place, code in answers:
        if score < least:
            break
        if all(code != other or float(overlaps(boxes[place], boxes[before])) <= overlap for _, before, other in kept):
            kept.append((score, place, code))
    return kept[:most]


@pytest.mark.parametrize("most", [5, 200])
def test_suppression_keeps_what_the_loop_keeps(most):
    boxes, scores = random_boxes(3, 60), torch.rand(3, 60, 2)
    found = suppress(boxes, scores, least=0.3, overlap=0.4, most=most)
    for row in range(3):
        wanted = greedy(boxes[row], scores[row], least=0.3, overlap=0.4, most=most)
        there = found.kept[row]
        assert found.scores[row][there].tolist() == pytest.approx([score for score, _, _ in wanted])
        assert found.classes[row][there].tolist() == [code for _, _, code in wanted]
        assert torch.equal(found.boxes[row][there], boxes[row][[place for _, place, _ in wanted]])
        assert len(wanted) < 120  # something was suppressed


def test_without_torch_the_same_is_kept():
    boxes, scores = random_boxes(60), torch.rand(60, 3)
    found = suppress(boxes[None], scores[None], least=0.2, overlap=0.5, most=40)
    plain = select(boxes.numpy(), scores.numpy(), Selection(0.2, 0.5, 40))
    np.testing.assert_array_equal(plain.boxes, found.boxes[0][found.kept[0]].numpy())
    np.testing.assert_array_equal(plain.classes, found.classes[0][found.kept[0]].numpy())
    np.testing.assert_array_equal(plain.scores, found.scores[0][found.kept[0]].numpy())


def test_a_chain_of_answers_is_suppressed_as_the_loop_does_it():
    """The middle one is gone, and so cannot send the last one away."""
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [4.0, 0.0, 14.0, 10.0], [8.0, 0.0, 18.0, 10.0]])
    found = suppress(boxes[None], torch.tensor([[[0.9], [0.8], [0.7]]]), least=0.1, overlap=0.4, most=10)
    assert found.scores[0][found.kept[0]].tolist() == pytest.approx([0.9, 0.7])


def test_complete_overlap_is_that_of_the_paper():
    one, other = torch.tensor([0.0, 0.0, 4.0, 2.0], requires_grad=True), torch.tensor([6.0, 0.0, 8.0, 2.0])
    distance = 5.0**2 / (8.0**2 + 2.0**2)
    shape = 4 / np.pi**2 * (np.arctan(1.0) - np.arctan(2.0)) ** 2
    found = complete_overlaps(one, other)
    assert found.item() == pytest.approx(-distance - shape / (1 + shape) * shape, abs=1e-6)
    found.backward()
    assert one.grad[2] > 0  # boxes that do not touch still learn where to go
    same = torch.tensor([1.0, 1.0, 5.0, 9.0])
    assert float(complete_overlaps(same, same)) == pytest.approx(1.0)


def grid(stride, side):
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    return torch.stack([x.flatten() * stride, y.flatten() * stride, torch.full((side * side,), float(stride))], dim=1)[None]


def asked(truth, boxes=None, scores=None, **more):
    places = grid(8, 4)
    boxes = torch.cat([places[..., :2] - 8, places[..., :2] + 8], dim=-1) if boxes is None else boxes
    scores = torch.full((1, 16, 2), 0.5) if scores is None else scores
    settings = {"most": 3, "radius": 1.5, "powers": (1.0, 6.0), **more}
    return assign(boxes, scores, places, truth=torch.tensor([truth]), **settings)


def test_an_object_is_answered_for_by_the_places_that_do_best():
    found = asked([[4.0, 4.0, 20.0, 20.0, 1.0, 0.0]])
    assert (found.quality[0] > 0).sum() >= 3
    best = int(found.quality[0].argmax())
    assert grid(8, 4)[0, best, :2].tolist() == [12.0, 12.0]
    assert float(found.quality[0, best]) == pytest.approx(1.0)  # asked for its overlap


def test_an_object_smaller_than_a_stride_has_places_too():
    tiny = [[14.5, 14.5, 17.5, 17.5, 0.0, 0.0]]
    assert (asked(tiny).quality > 0).any()
    assert not (asked(tiny, radius=0.0).quality > 0).any()


def test_a_place_answers_for_one_object_and_padding_for_none():
    found = asked([[4.0, 4.0, 20.0, 20.0, 1.0, 0.0], [5.0, 5.0, 21.0, 21.0, 0.0, 0.0], [0.0] * 6])
    assert set(found.which[0][found.quality[0] > 0].tolist()) == {0, 1} or set(found.which[0][found.quality[0] > 0].tolist()) == {0}
    assert not (asked([[0.0] * 6]).quality > 0).any()


def test_a_surer_place_is_chosen_before_an_equal_one():
    scores = torch.full((1, 16, 2), 0.5)
    scores[0, 10, 1] = 0.9
    truth = [[8.0, 8.0, 24.0, 24.0, 1.0, 0.0]]
    assert int(asked(truth, scores=scores, most=1).quality.argmax()) == 10


def test_nothing_is_asked_in_a_crowd():
    found = asked([[0.0, 0.0, 17.0, 17.0, 0.0, 1.0]])
    assert found.ignored[0].sum() == 4
    assert not (found.quality > 0).any()


def test_what_lies_in_the_border_of_a_letterboxed_picture_is_no_answer():
    target = TargetSpec("boxes", ("boxes",), ("a",), (1,), 1, shape=(100, 100))
    box = np.array([[[0.1, 0.0, 0.3, 0.2], [0.1, 0.4, 0.3, 0.6]]], np.float32)
    decoded = {"box": box, "score": np.array([[[0.9], [0.8]]], np.float32)}
    frame = np.array([[0.0, -50.0, 200.0, 200.0, 200.0, 100.0]])  # a picture twice as wide as high
    (row,) = box_table(target, {**decoded, "frame": frame}, Selection())["prediction"].to_pylist()
    assert [one["top"] for one in row] == pytest.approx([30.0])
    assert len(box_table(target, decoded, Selection())["prediction"].to_pylist()[0]) == 2
