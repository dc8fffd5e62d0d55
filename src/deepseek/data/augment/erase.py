"""Erase: blank out a square of each image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from deepseek.data.augment.base import Augmentation, Draw
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec


class Erase(Augmentation):
    """Blanks out a random rectangle of each image, so that no single detail decides (cutout; DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552).

    Args:
        inputs: The batch's inputs.
        probability: How likely an image loses a rectangle.
        fraction: Its height and width as a share of the image's; its centre may lie anywhere, so that it may be cut off at the border.
        fill: The value of blank pixels.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        probability: Annotated[float, Ge(0), Le(1)] = 0.5,
        fraction: Annotated[float, Gt(0), Le(1)] = 0.5,
        fill: Annotated[int, Ge(0), Le(255)] = 0,
    ) -> None:
        super().__init__(inputs)
        self.require_images()
        self.probability, self.fraction, self.fill = probability, fraction, fill

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with rectangles of images `[b, h, w, c]` blank; at the same place in all images of a row."""
        drawn = draw.uniform(len(batch), 3)
        changed = {}
        for name in self.images:
            x = batch.inputs[name]
            chosen, y, z = drawn.to(x.device).unbind(1)
            inside = self._span(y, x.shape[1])[:, :, None] & self._span(z, x.shape[2])[:, None, :]
            inside &= (chosen < self.probability)[:, None, None]
            changed[name] = x.masked_fill(inside[..., None], self.fill)
        return self.replace(batch, changed)

    def _span(self, drawn: Tensor, size: int) -> Tensor:
        """Return a boolean `[b, size]`: the places along an axis that lie within the rectangle."""
        length = max(1, round(self.fraction * size))
        start = (drawn * size).long()[:, None] - length // 2
        place = torch.arange(size, device=drawn.device)
        return (place >= start) & (place < start + length)
