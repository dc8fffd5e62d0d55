"""Blur: images out of focus."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from deepseek.data.augment.affine import ordered
from deepseek.data.augment.base import Augmentation, Draw
from deepseek.data.augment.selection import put
from deepseek.data.augment.warp import blocks
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec

BLOCK_PIXELS = 1 << 18
Sigma = Annotated[float, Gt(0), Le(20)]


class Blur(Augmentation):
    """Blurs each image with a Gaussian of a random width.

    Args:
        inputs: The batch's inputs.
        sigma: The least and the largest standard deviation of the Gaussian in pixels; it is cut off at three of the largest.
        probability: How likely an image is changed.

    Raises:
        InputError: The largest deviation is below the least.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        sigma: tuple[Sigma, Sigma] = (0.1, 2.0),
        probability: Annotated[float, Ge(0), Le(1)] = 0.5,
    ) -> None:
        super().__init__(inputs)
        self.require_images()
        self.sigma, self.probability = ordered("sigma", sigma), probability

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with images `[b, h, w, c]` blurred; beyond its border an image goes on as its mirror."""
        drawn = draw.uniform(len(batch), 2)
        low, high = self.sigma
        radius = math.ceil(3 * high)
        place = torch.arange(-radius, radius + 1)
        sigma = (low + (high - low) * drawn[:, 1])[:, None]
        weights = torch.exp(-(place**2) / (2 * sigma**2))
        weights = torch.where(drawn[:, :1] < self.probability, weights / weights.sum(dim=1, keepdim=True), (place == 0).float())
        changed = {}
        for name in self.images:
            x = batch.inputs[name]
            out = torch.empty_like(x, memory_format=torch.contiguous_format)
            for part in blocks(x, BLOCK_PIXELS // max(x.shape[1] * x.shape[2], 1)):
                own = weights[part].to(x.device)
                made = _smoothed(_smoothed(x[part].float(), own, 1), own, 2)
                put(out[part], made.add_(0.5) if x.dtype == torch.uint8 else made)
            changed[name] = out
        return self.replace(batch, changed)


def _smoothed(x: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Return images averaged along an axis, each with weights `[b, 2 · radius + 1]` of its own."""
    size, radius = x.shape[axis], weights.shape[1] // 2
    place = torch.arange(-radius, size + radius, device=x.device).remainder(2 * size)
    mirrored = x.index_select(axis, torch.minimum(place, 2 * size - 1 - place))
    made = torch.zeros_like(x)
    for step, weight in enumerate(weights.unbind(1)):
        made.addcmul_(mirrored.narrow(axis, step, size), weight.view(-1, 1, 1, 1))
    return made
