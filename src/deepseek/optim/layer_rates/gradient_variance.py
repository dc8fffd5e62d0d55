"""Rates by layer from the variance of the layer's gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from deepseek.errors import InputError
from deepseek.optim.gradients import Gradients, Trained
from deepseek.optim.layer_rates.base import LayerRates


class GradientVariance(LayerRates):
    """A layer whose gradient varies more than it usually does makes larger steps, one whose gradient varies less smaller ones.

    The variance is that of the elements of a layer's gradient, `mean(g²) - mean(g)²`, before clipping. A layer's factor is
    `(variance / its running mean) ** power`, kept within `low` and `high`. Layers differ by orders of magnitude in the variance itself,
    which is why each is compared with itself: over a long time the factors of all layers are near 1, and what differs is when.

    A variance of 0, that of a layer which no row of the batch has reached, and one that is not finite are no measurements: the layer's
    factor is then 1, and its running mean stays.

    A negative `power` turns it round: smaller steps where the gradient is noisier than usual.

    Args:
        power: The power of the ratio, between -2 and 2.
        low: The least factor, over 0 and at most 1.
        high: The largest factor, at least 1.
        decay: Decay of the running mean a measurement, in (0, 1).
        every: Steps between two measurements.
        warmup: Measurements of a layer at its beginning in which its factor is 1.

    Raises:
        InputError: `power` is 0, and the factors would all be 1.
    """

    def __init__(
        self,
        parameters: Sequence[Trained],
        /,
        *,
        power: Annotated[float, Ge(-2), Le(2)] = 0.5,
        low: Annotated[float, Gt(0), Le(1)] = 0.5,
        high: Annotated[float, Ge(1)] = 2.3,
        decay: Annotated[float, Gt(0), Le(0.9999)] = 0.98,
        every: Annotated[int, Ge(1)] = 10,
        warmup: Annotated[int, Ge(1)] = 10,
    ) -> None:
        super().__init__(parameters)
        if power == 0:
            raise InputError("power is 0, which makes every layer's factor 1", hint="another power, or no layer_rates")
        self.power, self.low, self.high, self.decay, self.every, self.warmup = power, low, high, decay, every, warmup
        for name in ("mean", "count"):
            self.state[name] = torch.zeros(len(self.parts.names), device=self.parts.device)

    def measure(self, gradients: Gradients) -> bool:
        """Measure the variances where it is time, and set the factors."""
        if self.made % self.every:
            return False
        variance, mean, count = self._variances(gradients), self.state["mean"], self.state["count"]
        measured = (variance > 0.0) & (variance < math.inf)
        count += measured
        mean.lerp_(variance.where(measured, mean), count.clamp_min(1.0).reciprocal().clamp_min(1.0 - self.decay))
        if self.made // self.every < self.warmup:  # no layer can have had more measurements than that
            return False
        factors = (variance / mean).pow(self.power)
        used = measured & factors.isfinite() & (count > self.warmup)
        self.state["factors"].copy_(factors.where(used, 1.0).clamp(self.low, self.high))
        return True

    def _variances(self, gradients: Gradients) -> torch.Tensor:
        """Return the variance of each layer's gradient, `[k]`."""
        mean = self.parts.sums(gradients.sums) / self.parts.sizes
        return (self.parts.sums(gradients.norms.square()) / self.parts.sizes - mean.square()).clamp_min(0.0)
