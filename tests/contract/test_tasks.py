from __future__ import annotations

import math

import pytest
import torch

from deepseek.components import FAMILIES
from deepseek.data.targets import TargetSpec
from deepseek.registry import family
from deepseek.tasks.contract import TaskContract

BINARY = TargetSpec("binary", ("y",), ("no", "yes"), (30, 10), 40)
CLASSES = TargetSpec("classes", ("y",), ("3", "5", "7"), (20, 10, 10), 40, integer_classes=True)
LABELS = TargetSpec("labels", ("y",), ("red", "green"), (10, 30), 40)
VALUES = TargetSpec("values", ("price", "rent"), (), (), 40, (100.0, -2.0), (10.0, 0.5))
PRICE = TargetSpec("values", ("price",), (), (), 40, (100.0,), (10.0,))
TOKENS = TargetSpec("tokens", ("text",), rows=3, lengths=(0, 1, 0, 0, 1, 1, 2))
TAGS = TargetSpec("tags", ("tags",), ("O", "B-PER", "I-PER"), (9, 3, 2), 5)
PLAIN_TAGS = TargetSpec("tags", ("tags",), ("DET", "NOUN", "VERB"), (9, 3, 2), 5)
BOXES = TargetSpec("boxes", ("boxes",), ("cat", "dog"), (20, 20), 40, shape=(32, 64))
MASK = TargetSpec("mask", ("mask",), ("0", "1", "7"), (20, 10, 10), 20, integer_classes=True, shape=(5, 6))
VOLUME = TargetSpec("mask", ("mask",), ("0", "1", "7"), (20, 10, 10), 20, integer_classes=True, shape=(3, 4, 2))
CASES = {
    "binary": ("binary", BINARY),
    "binary, balanced": ({"type": "binary", "class_weights": "balanced", "loss": "focal"}, BINARY),
    "multiclass": ("multiclass", CLASSES),
    "multiclass, weighted": ({"type": "multiclass", "class_weights": {"5": 3.0}, "loss": "focal", "metrics": ["auc"]}, CLASSES),
    "binary, resampled": ({"type": "binary", "resample": "over", "probabilities": "of_data"}, BINARY),
    "multiclass, adjusted": ({"type": "multiclass", "logit_adjustment": 1.0, "probabilities": "of_data"}, CLASSES),
    "multiclass, effective": ({"type": "multiclass", "class_weights": "effective"}, CLASSES),
    "multilabel": ("multilabel", LABELS),
    "multilabel, balanced": ({"type": "multilabel", "class_weights": "balanced"}, LABELS),
    "multilabel, of data": ({"type": "multilabel", "class_weights": "balanced", "probabilities": "of_data"}, LABELS),
    "regression": ("regression", PRICE),
    "segmentation": ("segmentation", MASK),
    "segmentation, volumes": ({"type": "segmentation", "loss": "dice", "metrics": [{"type": "iou", "background": False}]}, VOLUME),
    "segmentation, cross-entropy": ({"type": "segmentation", "loss": {"type": "cross_entropy", "label_smoothing": 0.05}}, MASK),
    "segmentation, focal": ({"type": "segmentation", "loss": "focal", "ignore": 9}, VOLUME),
    "regression, two columns": ({"type": "regression", "loss": "huber"}, VALUES),
    "language_modelling": ({"type": "language_modelling", "tied": False}, TOKENS),
    "sequence_labelling": ("sequence_labelling", TAGS),
    "sequence_labelling, plain": ("sequence_labelling", PLAIN_TAGS),
    "detection": ({"type": "detection", "metrics": ["map50", "map", "box_recall", "miss_rate"]}, BOXES),
    "forecasting": ({"type": "forecasting", "horizon": 3, "metrics": ["rmse", "mae", "scaled_mse"]}, PRICE),
    "forecasting, quantiles": (
        {"type": "forecasting", "horizon": 3, "loss": "quantile", "metrics": ["scaled_mae", "pinball", "coverage"]},
        VALUES,
    ),
}


def test_every_builtin_task_is_in_this_suite():
    learning = set(FAMILIES["task"][1]) - {"embedding"}  # which learns nothing; see tests/flow/test_embedding.py
    assert {name.split(",")[0] for name in CASES} == learning


@pytest.mark.parametrize("case", CASES)
class TestBuiltinTasks(TaskContract):
    @pytest.fixture(autouse=True)
    def _case_of(self, case):
        torch.manual_seed(0)
        self.spec, self.target = CASES[case]

    def build(self):
        return family("task").build(self.spec, self.target)

    def outputs(self, rows):
        if self.target.kind == "boxes":
            y, x = torch.meshgrid(torch.arange(4) + 0.5, torch.arange(8) + 0.5, indexing="ij")
            places = torch.stack([x.flatten() * 8, y.flatten() * 8, torch.full((32,), 8.0)], dim=1).expand(rows, -1, -1)
            return torch.cat([0.3 * torch.randn(rows, 32, 4), torch.randn(rows, 32, 2), places], dim=-1)
        if self.target.kind == "mask":
            return torch.randn(rows, len(self.target.classes), *self.target.shape)
        task = self.build()
        return torch.randn(rows, 4, task.outputs) if task.takes == "sequence" else super().outputs(rows)

    def targets(self, rows):
        if self.target.kind == "mask":
            codes = torch.arange(rows * math.prod(self.target.shape)).reshape(rows, *self.target.shape) % 4
            return torch.where(codes == 3, 255, codes).to(torch.uint8)  # some places are not known
        place = torch.arange(rows)
        if self.target.kind in ("tokens", "tags"):
            return torch.randint(0, self.build().outputs, (rows, 4))
        if self.target.kind == "binary":
            return (place % 2).float()
        if self.target.kind == "classes":
            return place % 3
        if self.target.kind == "labels":
            return torch.stack((place % 2, place % 3 == 0), dim=1).float()
        if self.target.kind == "boxes":
            corner = torch.rand(rows, 3, 2) * torch.tensor([40.0, 12.0])
            objects = torch.cat(
                [corner, corner + 8 + 8 * torch.rand(rows, 3, 2), torch.randint(0, 2, (rows, 3, 1)), torch.zeros(rows, 3, 1)], -1
            )
            return objects * (torch.rand(rows, 3, 1) < 0.7)
        if isinstance(self.spec, dict) and self.spec["type"] == "forecasting":
            return torch.randn(rows, 3, len(self.target.columns))
        values = torch.randn(rows, len(self.target.columns))
        return values.squeeze(1) if len(self.target.columns) == 1 else values
