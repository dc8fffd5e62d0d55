"""A network whose blocks return several tensors, which are changed in place afterwards."""

from __future__ import annotations

import torch
from torch import nn


class Pair(nn.Module):
    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width_in, width_out)

    def forward(self, x):
        out = self.layer(x)
        return out.view(out.shape), {"mean": out.mean()}


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([Pair(4, 8), Pair(8, 8), Pair(8, 2)])

    def forward(self, inputs):
        x = inputs["x"]
        for block in self.blocks:
            x, _ = block(x)
            x += 1.0
            x = x.tanh()
        return x
