"""Which pictures a report shows, and what is said of them; no network is trained here."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.pipeline.analysis.pictures import MOST_PICTURES, picture_facts
from deepseek.reporting.facts import PicturesFacts
from deepseek.reporting.report import _pictures
from deepseek.tasks.detection import DetectionTask
from deepseek.tasks.segmentation import SegmentationTask

SIDE = 16


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def masks(*space, rows=10):
    """Rows whose first ones are answered rightly to a growing part: the answer is the class wherever the picture is bright."""
    truth = np.zeros((rows, *space), np.uint8)
    truth[..., 2:10, 2:10] = 1
    pictures = truth * 200
    for row in range(rows):
        pictures[row, ..., 2 : 2 + row % 9, 2:10] = 0
    return pictures, truth


class Bright:
    """Says of a place that is bright that it is of the second class."""

    def __init__(self, task):
        self.task = task

    def predict(self, inputs):
        bright = (inputs["x"][..., 0] > 100).float()
        return {"probability": torch.stack([1 - bright, bright], dim=1)}


@pytest.mark.parametrize("space", [(SIDE, SIDE), (5, SIDE, SIDE)], ids=["image", "volume"])
def test_masks_are_shown_from_the_worst_to_the_best(space):
    pictures, truth = masks(*space)
    values = pictures[..., None] if len(space) == 2 else pictures[..., None].astype(np.float32)
    data = PreparedDataset.from_arrays({"x": values}, {"target": truth})
    target = TargetSpec("mask", ("mask",), ("0", "255"), (10, 10), 10, shape=space)
    found = picture_facts(Bright(SegmentationTask(target)), data, "test", seed=0)
    scores = [float(one.measure.removeprefix("Dice ")) for one in found.shown]
    assert scores == sorted(scores)
    assert (scores[0], scores[-1], len(scores)) == (0.0, 1.0, MOST_PICTURES)
    assert (found.shown[0].row, found.looked_at, found.of) == (8, 10, 10)
    assert [name for name, _ in found.colours] == ["255"]
    best = decoded(found.shown[-1].truth)
    inside, outside = best[best.shape[0] * 6 // SIDE, best.shape[1] * 6 // SIDE], best[-3, -3]
    assert np.ptp(inside) > 20 > np.ptp(outside), "only what is there is coloured in"


def test_boxes_are_counted_as_right_once():
    truth = np.array([[[2, 2, 8, 8, 0, 0], [9, 9, 15, 15, 1, 0]]], np.float32)
    data = PreparedDataset.from_arrays({"x": np.zeros((1, SIDE, SIDE, 3), np.uint8)}, {"target": truth})
    target = TargetSpec("boxes", ("boxes",), ("disc", "square"), (1, 1), 1, shape=(SIDE, SIDE))
    box = torch.tensor([[[2, 2, 8, 8], [2, 2, 6, 8], [9, 9, 15, 15]]]) / SIDE
    score = torch.tensor([[[0.9, 0.0], [0.0, 0.8], [0.7, 0.0]]])  # a right one, a square that is none, and the square called a disc
    model = SimpleNamespace(task=DetectionTask(target), predict=lambda inputs: {"box": box, "score": score})
    found = picture_facts(model, data, "validation", seed=0)
    assert [one.measure for one in found.shown] == ["1 of 2 found, 2 wrong"]
    assert dict(found.colours).keys() == {"disc", "square"}
    assert isinstance(found, PicturesFacts)
    html = "".join(map(str, _pictures(found)))
    assert html.count("<img") == 2
    assert "validation rows" in html
