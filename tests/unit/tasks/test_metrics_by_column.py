"""Several targets: each one's number beside their mean."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from torch import nn

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.tasks.regression import RegressionTask
from deepseek.training import evaluate

REFERENCES = {"rmse": root_mean_squared_error, "mae": mean_absolute_error, "r2": r2_score}


class Constant(nn.Module):
    def __init__(self, out):
        super().__init__()
        self.out = out

    def forward(self, inputs):
        return self.out


def measured(columns):
    random = np.random.default_rng(0)
    mean, std = tuple(range(1, columns + 1)), tuple(range(2, columns + 2))
    truth, out = random.normal(size=(2, 50, columns)).astype(np.float32)
    task = RegressionTask(TargetSpec("values", tuple("abc"[:columns]), rows=50, mean=mean, std=std))
    batch = Batch({"x": torch.zeros(50, 1)}, {"target": torch.from_numpy(truth[:, 0] if columns == 1 else truth)})
    units = [values.astype(np.float64) * std + mean for values in (truth, out)]
    return evaluate(Constant(torch.from_numpy(out)[:, None]), task, [batch]), *units


def test_each_target_has_its_number_and_the_mean_is_theirs():
    metrics, truth, predicted = measured(3)
    for name, reference in REFERENCES.items():
        expected = reference(truth, predicted, multioutput="raw_values")
        assert [metrics[f"{name}_{column}"] for column in "abc"] == pytest.approx(expected.tolist(), rel=1e-6)
        assert metrics[name] == pytest.approx(expected.mean(), rel=1e-6)


def test_a_single_target_has_no_second_name():
    assert set(measured(1)[0]) == {"loss", *REFERENCES}
