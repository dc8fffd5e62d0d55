"""Leaving out steps whose gradient is far larger than usual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor

from deepseek.optim.clippings.base import LeftOut, Steps
from deepseek.optim.clippings.quantile import QuantileClipping
from deepseek.optim.gradients import Gradients, Trained


class SpikeSkipping(QuantileClipping):
    """Does not make a step whose gradient norm is many times the usual one: a bad batch, not a steep place.

    What is usual is the median of the norms of the last `window` steps, which single spikes do not move. Norms of steps that were left out
    enter the history too, so that a gradient that has grown for good is taken for usual after half a window. A norm that is infinite or
    NaN is a spike from the first step on, and does not enter; one of 0, that of a batch whose rows weigh nothing, does not enter either.

    Where a step is left out, neither the weights nor the optimizer's state change. How many were left out, and the last of them, is
    told in the log. Adam and AdamW in their fused form decide on the device; other optimizers, and fp16, wait for it every step.

    For the first `warmup` norms only what is not finite is left out.

    Args:
        factor: How many times the usual norm is a spike, over 1.
        window: How many of the last steps the history holds.
        warmup: Norms at the beginning in which every finite gradient is used.
        every: Steps between two looks at the history.

    Raises:
        InputError: `warmup` is more than `window`.
    """

    refuses: ClassVar[bool] = True

    def __init__(
        self,
        parameters: Sequence[Trained],
        /,
        *,
        factor: Annotated[float, Gt(1)] = 10.0,
        window: Steps = 100,
        warmup: Steps = 20,
        every: Steps = 10,
    ) -> None:
        super().__init__(parameters, quantile=0.5, window=window, warmup=warmup, every=every)
        self.factor = factor
        self.state["last"] = torch.zeros((1, 3), device=self.parts.device)

    def limit(self, gradients: Gradients) -> Tensor:
        """Remember the norm, and say whether the step is to be left out."""
        norm, usual, last = self.parts.norms(gradients.norms), self.state["quantile"], self.state["last"]
        spike = ~norm.isfinite() | (norm > self.factor * usual)
        last.copy_(torch.stack([torch.full_like(norm, self.made + 1), norm, usual], dim=1).where(spike, last))
        self.state["limited"] += spike
        self.remember(norm)
        return spike[0].to(torch.float32)

    def left_out(self) -> LeftOut:
        """Return how many steps were left out, and the last of them."""
        count, (last, norm, usual) = int(self.state["limited"]), self.state["last"][0].tolist()
        return LeftOut(count, int(last), norm, usual)
