"""Erase: blank out a square of each image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from deepseek.data.augment.base import Augmentation, Draw
from deepseek.data.augment.selection import picked
from deepseek.data.augment.warp import blocks
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec

BLOCK_ELEMENTS = 1 << 20


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
            # a mask in the image's own layout, channel by channel: several times as fast as one that is spread over them
            across = self._span(z, x.shape[2]).repeat_interleave(x.shape[3], dim=1).view(torch.uint8)
            down = (self._span(y, x.shape[1]) & (chosen < self.probability)[:, None]).view(torch.uint8)
            out, fill = torch.empty_like(x, memory_format=torch.contiguous_format), x.new_tensor(self.fill)
            for part in blocks(x, BLOCK_ELEMENTS // max(x[:1].numel(), 1)):
                inside = (down[part, :, None] & across[part, None, :]).view(torch.bool)
                out[part] = picked(inside, fill, x[part].reshape(inside.shape)).view(x[part].shape)
            changed[name] = out
        return self.replace(batch, changed)

    def _span(self, drawn: Tensor, size: int) -> Tensor:
        """Return a boolean `[b, size]`: the places along an axis that lie within the rectangle."""
        length = max(1, round(self.fraction * size))
        start = (drawn * size).long()[:, None] - length // 2
        place = torch.arange(size, device=drawn.device)
        return (place >= start) & (place < start + length)
