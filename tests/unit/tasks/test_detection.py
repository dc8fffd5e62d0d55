from __future__ import annotations

import numpy as np
import pytest
import torch

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.tasks.box_answers import Selection
from deepseek.tasks.detection import DetectionTask, placed_boxes

TARGET = TargetSpec("boxes", ("boxes",), ("cat", "dog"), (9, 9), 20, shape=(32, 64))
OBJECT = [8.0, 8.0, 24.0, 24.0, 1.0, 0.0]


def places():
    y, x = torch.meshgrid(torch.arange(4) + 0.5, torch.arange(8) + 0.5, indexing="ij")
    return torch.stack([x.flatten() * 8, y.flatten() * 8, torch.full((32,), 8.0)], dim=1)


def outputs(rows=1):
    torch.manual_seed(0)
    out = torch.zeros(rows, 32, 4 + 2 + 3)
    out[..., :4] = 0.3 * torch.randn(rows, 32, 4) + torch.tensor([0.0, 0.0, 0.7, 0.7])
    out[..., 4:6] = torch.randn(rows, 32, 2) - 2
    out[..., 6:] = places()
    return out


def trained(task, truth, steps=150):
    out = outputs(len(truth)).requires_grad_()
    optimizer = torch.optim.Adam([out], lr=0.05)
    for _ in range(steps):
        numerator, denominator = task.loss(out, Batch({}, {"target": truth}))
        optimizer.zero_grad()
        (numerator / denominator).backward()
        optimizer.step()
    return out.detach()


def test_outputs_learn_to_say_what_is_there():
    task = DetectionTask(TARGET)
    out = trained(task, torch.tensor([[OBJECT]]))
    (row,) = task.answer(task.decode(out))["prediction"].to_pylist()
    assert [one["label"] for one in row] == ["dog"]
    assert [row[0][edge] for edge in ("left", "top", "right", "bottom")] == pytest.approx(OBJECT[:4], abs=1.0)
    assert row[0]["score"] > 0.7
    assert torch.equal(out[..., 6:], places()[None])  # where a place is cannot be learned


def test_boxes_do_not_learn_without_their_loss():
    out = trained(DetectionTask(TARGET, box_weight=1e-12), torch.tensor([[OBJECT]]))
    torch.testing.assert_close(placed_boxes(out), placed_boxes(outputs()), atol=2.0, rtol=0)
    assert (placed_boxes(trained(DetectionTask(TARGET), torch.tensor([[OBJECT]]))) - placed_boxes(outputs())).abs().max() > 2


def test_a_picture_without_objects_teaches_that_nothing_is_there():
    task, empty = DetectionTask(TARGET), torch.zeros(1, 1, 6)
    assert task.decode(trained(task, empty))["score"].max() < task.decode(outputs())["score"].max() / 2
    assert float(task.loss(outputs(), Batch({}, {"target": empty}))[1]) == 1.0


def test_in_a_crowd_nothing_is_asked():
    task = DetectionTask(TARGET)
    out, crowd = outputs().requires_grad_(), torch.tensor([[[0.0, 0.0, 33.0, 32.0, 0.0, 1.0]]])
    task.loss(out, Batch({}, {"target": crowd}))[0].backward()
    asked = out.grad[0, :, 4:6].abs().sum(dim=1) > 0
    assert torch.equal(asked, places()[:, 0] > 33)


def test_scores_that_are_nearly_right_count_little_unless_focus_is_off():
    out, empty = outputs(), Batch({}, {"target": torch.zeros(1, 1, 6)})
    assert DetectionTask(TARGET).loss(out, empty)[0] < 0.3 * DetectionTask(TARGET, focus=0.0).loss(out, empty)[0]


def test_a_box_may_be_moved_by_an_augmentation_to_nothing():
    """A place in the middle that is padding changes no loss."""
    task, gap = DetectionTask(TARGET), torch.tensor([[[0.0] * 6, OBJECT]])
    torch.testing.assert_close(task.loss(outputs(), Batch({}, {"target": gap})), task.loss(outputs(), Batch({}, {"target": gap[:, 1:]})))


def test_answers_are_in_pixels_of_the_picture_and_of_its_own_class_type():
    target = TargetSpec("boxes", ("boxes",), ("3", "7"), (9, 9), 20, integer_classes=True, shape=(32, 64))
    task = DetectionTask(target, least_score=0.5)
    decoded = {
        "box": np.array([[[0.25, 0.25, 0.75, 0.5], [0, 0, 1, 1]]], np.float32),
        "score": np.array([[[0.1, 0.9], [0.4, 0.0]]], np.float32),
    }
    (row,) = task.answer(decoded)["prediction"].to_pylist()
    assert row == [{"left": 16.0, "top": 8.0, "right": 48.0, "bottom": 16.0, "label": 7, "score": pytest.approx(0.9)}]
    letterboxed = {**decoded, "frame": np.array([[0.0, -30.0, 160.0, 80.0, 160.0, 100.0]])}
    (row,) = task.answer(letterboxed)["prediction"].to_pylist()
    assert [row[0][edge] for edge in ("left", "top", "right", "bottom")] == [40.0, 0.0, 120.0, 10.0]


def test_the_selection_of_a_bundle_is_that_of_its_task():
    assert Selection.of({"type": "detection", "least_score": 0.1, "most": 7}) == Selection(0.1, 0.6, 7)
    assert DetectionTask(TARGET, least_score=0.1, most=7).selection == Selection(0.1, 0.6, 7)


def test_boxes_are_cut_at_the_border_however_large_they_are():
    out = outputs()
    out[0, 0, :4] = torch.tensor([0.0, 0.0, 50.0, 50.0])
    box = DetectionTask(TARGET).decode(out)["box"]
    assert box[0, 0].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert box.min() >= 0
    assert box.max() <= 1
