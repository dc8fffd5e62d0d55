"""The contract of every clipping: what is done to gradients that are too large."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from deepseek.optim.gradients import Gradients, Parts, Per, Remembering, Trained

Limit = Annotated[float, Gt(0)]
Steps = Annotated[int, Ge(1)]
Decay = Annotated[float, Gt(0), Lt(1)]
TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class LeftOut:
    """Steps that were not made.

    Attributes:
        steps: How many.
        last: The number of the last of them, counted from 1.
        norm: Its gradient norm.
        usual: What is usual.
    """

    steps: int
    last: int
    norm: float
    usual: float


def is_measured(norms: Tensor) -> Tensor:
    """Say which norms are some of a history, in their shape.

    One that is infinite or NaN says nothing, and neither does one of 0: that of a layer which no row of the batch has reached. A gradient
    that is missing on one rank is 0 on several, and a history must not tell them apart.

    Args:
        norms: Norms of gradients.
    """
    return (norms > 0.0) & (norms < math.inf)


class Clipping(Remembering):
    """Limits the gradients of a step, in place, before the optimizer uses them.

    It sees the gradients of the whole batch: added up over micro-batches and ranks, divided, and without a loss scale. In fp16 they may be
    infinite where they overflowed: such norms must not enter a history. It changes them by `scale_`, or those in `gradients.tensors` in
    place, and then calls `gradients.changed()`. Nothing may wait for the device (`.item()`, `if tensor:`), and histories stand in `state`.
    A warm-up is counted by part: a layer may begin to train later than others.

    Args:
        parameters: What is trained.
        per: Whose history is kept.

    Attributes:
        refuses: Whether it may refuse steps.
    """

    refuses: ClassVar[bool] = False

    def __init__(self, parameters: Sequence[Trained], /, *, per: Per = "model") -> None:
        super().__init__(Parts(parameters, per))
        self.parameters = list(parameters)
        self.state["limited"] = torch.zeros(len(self.parts.names), device=self.parts.device)

    @torch.no_grad()
    def __call__(self, gradients: Gradients) -> Tensor | None:
        """Limit the gradients of a step.

        Args:
            gradients: The gradients, gathered.

        Returns:
            Nothing, or a float32 scalar on the device: 1 where the step must not be made, 0 where it may.
        """
        refused = self.limit(gradients)
        self.made += 1
        return refused

    @abstractmethod
    def limit(self, gradients: Gradients) -> Tensor | None:
        """Do it; `made` counts the steps before this one."""

    def scale_(self, gradients: Gradients, factors: Tensor) -> None:
        """Multiply the gradients of each part by its factor, `[k]`, at most 1, and count the steps in which that was less."""
        gradients.scale_(self.parts, factors)
        self.state["limited"] += factors < 1.0

    def limited_share(self) -> float:
        """Return in which share of the steps gradients were limited, of the part in which it was most often. Waits for the device."""
        return float(self.state["limited"].max()) / max(self.made, 1)

    def left_out(self) -> LeftOut | None:
        """Return what was not made; nothing for a clipping that refuses no step. Waits for the device."""
        return None
