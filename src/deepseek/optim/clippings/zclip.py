"""Clipping by how many deviations a norm lies over the running mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from deepseek.optim.clippings.base import TINY, Clipping, Decay, Limit
from deepseek.optim.gradients import Gradients, Per, Trained


class ZClipping(Clipping):
    """Scales down gradients whose norm is an outlier among the norms so far, and leaves all others alone.

    With `z` the norm's distance from the running mean in deviations, a norm of more than `threshold` deviations becomes that of
    `threshold² / z`: the further out, the nearer to the mean. The clipped norm enters mean and deviation, so that an outlier hardly moves
    them; one that is infinite or NaN does not enter at all.

    For the first `warmup` steps nothing is clipped; their norms give the first mean and deviation.

    Source: Kumar, Owen, Roy Chowdhury and Güra, "ZClip: Adaptive Spike Mitigation for LLM Pre-Training", 2025,
    https://arxiv.org/abs/2504.02507.

    Args:
        threshold: From how many deviations over the mean a norm is clipped.
        decay: Decay of the running mean and variance, in (0, 1).
        warmup: Steps at the beginning in which nothing is clipped, at least 2.
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
        if self.made < self.warmup:
            self._warm(norms)
            return
        mean, variance = self.state["mean"], self.state["variance"]
        deviation = variance.sqrt().clamp_min(TINY)
        z = (norms - mean) / deviation
        clipped = (mean + self.threshold**2 / z * deviation).where(z > self.threshold, norms)
        self.scale_(gradients, (clipped / norms.clamp_min(TINY)).where(z > self.threshold, 1.0))
        kept = clipped.where(norms.isfinite(), mean)
        mean.lerp_(kept, 1.0 - self.decay)
        variance.lerp_((kept - mean).square(), 1.0 - self.decay)

    def _warm(self, norms: Tensor) -> None:
        """Add norms to the first mean and variance (Welford, 1962); the last step of the warm-up divides the sum of squares."""
        mean, squares, count = (self.state[name] for name in ("mean", "variance", "count"))
        finite = norms.isfinite()
        count += finite
        away = (norms - mean).where(finite, 0.0)
        mean += away / count.clamp_min(1.0)
        squares += away * (norms - mean).where(finite, 0.0)
        if self.made + 1 == self.warmup:
            squares /= (count - 1.0).clamp_min(1.0)
