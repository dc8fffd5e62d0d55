"""Noise: Gaussian noise on images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from deepseek.data.augment.affine import ordered
from deepseek.data.augment.base import Augmentation, Draw
from deepseek.data.augment.selection import put
from deepseek.data.augment.warp import blocks
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec

NOISES = 1 << 21
BLOCK_ELEMENTS = 1 << 19
Share = Annotated[float, Ge(0), Le(1)]


class Noise(Augmentation):
    """Adds Gaussian noise to each image, as a dark room or a cheap sensor does.

    Two million normal numbers are drawn for a batch, and each image is given a stretch of them that begins at a place of its own, with a
    sign of its own: noise is independent within an image, while two images may hold parts of the same. That costs a tenth of drawing every
    number, and is the same whatever the rank holds.

    Args:
        inputs: The batch's inputs.
        std: The least and the largest standard deviation, as a share of the range (255 for bytes, 1 for floats).
        probability: How likely an image is changed.

    Raises:
        InputError: The largest deviation is below the least.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, std: tuple[Share, Share] = (0.02, 0.08), probability: Share = 0.5) -> None:
        super().__init__(inputs)
        self.require_images()
        self.std, self.probability = ordered("std", std), probability

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with noisy images `[b, h, w, c]`; bytes stay between 0 and 255, floats are taken as 0 to 1 and stay there."""
        drawn = draw.uniform(len(batch), 3)
        seed = int(draw.once() * 2**24)
        low, high = self.std
        strength = (low + (high - low) * drawn[:, 1]) * (drawn[:, 0] < self.probability)
        changed = {}
        for name in self.images:
            x = batch.inputs[name]
            size = x[0].numel() if len(x) else 0
            table = torch.randn(NOISES + size, generator=torch.Generator().manual_seed(seed)).to(x.device)
            # the third number gives both the place (its high digits) and the sign (whether it is above one half)
            place = (drawn[:, 2] * 2 * NOISES).long() % NOISES
            changed[name] = _noisy(x, table, place.to(x.device), (strength * (drawn[:, 2] * 2).floor().mul(2).sub(1)).to(x.device))
        return self.replace(batch, changed)


def _noisy(x: Tensor, table: Tensor, place: Tensor, strength: Tensor) -> Tensor:
    size = x[0].numel() if len(x) else 0
    whole = x.dtype == torch.uint8
    scale = strength * (255 if whole else 1)
    stretches = table.unfold(0, size, 1) if size else table
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for part in blocks(x, BLOCK_ELEMENTS // max(size, 1)):
        noise = stretches.index_select(0, place[part])
        made = noise.mul_(scale[part, None]).add_(x[part].reshape(len(noise), size))
        made = made.add_(0.5).clamp_(0, 255.5) if whole else made.clamp_(0, 1)
        put(out[part], made.view(x[part].shape))
    return out
