"""Small data, task and model, from the real classes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.models.base import Encoded, Encoder
from deepseek.tasks.multiclass import MulticlassTask


class Net(nn.Module):
    """Three classes from four numbers, as `[b, 1, 3]`."""

    def __init__(self, *, dropout: float = 0.0, norm: bool = False, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.hidden = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, 3)

    def forward(self, inputs):
        return self.head(self.dropout(self.norm(torch.relu(self.hidden(inputs["x"]))))).unsqueeze(1)


class Deep(Encoder):
    """Three blocks with batch normalisation, as if they had been trained before."""

    def __init__(self) -> None:
        super().__init__({})
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()) for _ in range(3))
        self.width, self.checkpoint = 4, "somewhere"

    def forward(self, inputs):
        x = inputs["x"]
        for layer in self.layers:
            x = layer(x)
        return Encoded(x.unsqueeze(1))


class Pretrained(nn.Module):
    """Three classes from four numbers, by way of an encoder that is pre-trained."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder, self.head = Deep(), nn.Linear(4, 3)

    def forward(self, inputs):
        return self.head(self.encoder(inputs).tokens)


def dataset(rows: int = 96, *, seed: int = 0, weighted: bool = False) -> PreparedDataset:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((rows, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0.5)
    weight = generator.random(rows).astype(np.float32) if weighted else None
    return PreparedDataset.from_arrays({"x": x}, {"target": y}, weight=weight)


def task() -> MulticlassTask:
    return MulticlassTask(TargetSpec("classes", ("y",), ("a", "b", "c"), (1, 1, 1), 3))


@pytest.fixture
def small():
    """The makers of the parts: `net`, `pretrained`, `data`, `task`."""
    return SimpleNamespace(net=Net, pretrained=Pretrained, data=dataset, task=task)
