from __future__ import annotations

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
    "regression, two columns": ({"type": "regression", "loss": "huber"}, VALUES),
    "forecasting": ({"type": "forecasting", "horizon": 3, "metrics": ["rmse", "mae", "scaled_mse"]}, PRICE),
    "forecasting, quantiles": (
        {"type": "forecasting", "horizon": 3, "loss": "quantile", "metrics": ["scaled_mae", "pinball", "coverage"]},
        VALUES,
    ),
}


def test_every_builtin_task_is_in_this_suite():
    assert {name.split(",")[0] for name in CASES} == set(FAMILIES["task"][1])


@pytest.mark.parametrize("case", CASES)
class TestBuiltinTasks(TaskContract):
    @pytest.fixture(autouse=True)
    def _case_of(self, case):
        torch.manual_seed(0)
        self.spec, self.target = CASES[case]

    def build(self):
        return family("task").build(self.spec, self.target)

    def targets(self, rows):
        place = torch.arange(rows)
        if self.target.kind == "binary":
            return (place % 2).float()
        if self.target.kind == "classes":
            return place % 3
        if self.target.kind == "labels":
            return torch.stack((place % 2, place % 3 == 0), dim=1).float()
        if isinstance(self.spec, dict) and self.spec["type"] == "forecasting":
            return torch.randn(rows, 3, len(self.target.columns))
        values = torch.randn(rows, len(self.target.columns))
        return values.squeeze(1) if len(self.target.columns) == 1 else values
