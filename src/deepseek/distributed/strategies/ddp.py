"""The whole model on every rank, a share of the rows each."""

from __future__ import annotations

from torch import nn

from deepseek.distributed.strategies.base import Placement, Situation, Strategy
from deepseek.distributed.sync import broadcast_


class DataParallel(Strategy):
    """Every rank has the whole model and a share of each batch; gradients are summed while the backward pass runs.

    The fastest where the model fits on a device (Li et al., 2020, https://arxiv.org/abs/2006.15704).
    """

    whole = True
    formats = frozenset({"fp32", "bf16", "fp16"})

    def place(self, model: nn.Module, situation: Situation, /) -> Placement:
        """Give every rank the weights of rank 0."""
        model.to(situation.ranks.device)
        broadcast_([*model.parameters(), *model.buffers()], situation.ranks)
        return Placement(model, situation.ranks)
