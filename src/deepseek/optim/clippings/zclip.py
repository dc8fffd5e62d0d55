"""Clipping by how many deviations a norm lies over the running mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from deepseek.optim.clippings.base import TINY, Clipping, Decay, Limit, is_measured
from deepseek.optim.gradients import Gradients, Per, Trained


class ZClipping(Clipping):
    """Scales down gradients whose norm is an outlier among the norms so far, and leaves all others alone.

    With `z` the norm's distance from the running mean in deviations, a norm of more than `threshold` deviations becomes that of
    `threshold² / z`: the further out, the nearer to the mean. The clipped norm enters mean and deviation, so that an outlier hardly moves
    them; one that is infinite or NaN does not enter at all, and neither does one of 0, that of a layer which no row has reached.

    For the first `warmup` norms of a part nothing is clipped; they give its first mean and deviation. Norms that have been the same so far
    have no deviation, and the next is not clipped either.

    Source: Kumar, Owen, Roy Chowdhury and Güra, "ZClip: Adaptive Spike Mitigation for LLM Pre-Training", 2025,
    https://arxiv.org/abs/2504.02507.

    Args:
        threshold: From how many deviations over the mean a norm is clipped.
        decay: Decay of the running mean and variance, in (0, 1).
        warmup: Norms of a part at its beginning in which nothing is clipped, at least 2.
        per: Whose history: the `model`'s, each `group`'s of the optimizer, or each `layer`'s.
    """

    def __init__(
        self,
        parameters: Sequence[Trained],
        /,
        *,
        threshold: Limit = 2.5,
        decay: Decay = 0.97,
        warmup: Annotated[int, Ge(2)] = 25,
        per: Per = "model",
    ) -> None:
        super().__init__(parameters, per=per)
        self.threshold, self.decay, self.warmup = threshold, decay, warmup
        for name in ("mean", "variance", "count"):
            self.state[name] = torch.zeros(len(self.parts.names), device=self.parts.device)

    def limit(self, gradients: Gradients) -> None:
        """Scale what is an outlier, and let the norms into the history."""
        norms = self.parts.norms(gradients.norms)
        mean, variance, entering = self.state["mean"], self.state["variance"], is_measured(norms)
        self.state["count"] += entering
        warm = self.state["count"] <= self.warmup
        if self.made < self.warmup:  # no part can have had more norms than that
            self._take_in(norms, entering, warm)
            return
        deviation = variance.sqrt()
        z = (norms - mean) / deviation.clamp_min(TINY)
        outlier = (z > self.threshold) & (deviation > 0.0) & ~warm
        clipped = (mean + self.threshold**2 / z * deviation).where(outlier, norms)
        self.scale_(gradients, (clipped / norms).where(outlier, 1.0))
        self._take_in(clipped, entering, warm)

    def _take_in(self, norms: Tensor, entering: Tensor, warm: Tensor) -> None:
        """Let norms into mean and variance: while a part is warm alike (Welford, 1962), then the later the more."""
        mean, variance, count = (self.state[name] for name in ("mean", "variance", "count"))
        kept = norms.where(entering, mean)
        away = kept - mean
        mean.lerp_(kept, count.clamp_min(1.0).reciprocal().where(warm, 1.0 - self.decay))
        left = kept - mean
        # while a part is warm, the variance is the sum of squares; the last norm of the warm-up divides it
        squares = (variance + away * left) / torch.where(entering & (count == self.warmup), self.warmup - 1.0, 1.0)
        later = variance.lerp(left.square(), 1.0 - self.decay).where(entering, variance)
        variance.copy_(squares.where(warm, later))
