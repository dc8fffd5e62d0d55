"""Flip: mirror images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le

from deepseek.data.augment.base import Augmentation, Draw
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec


class Flip(Augmentation):
    """Mirrors each image with some probability; right where left and right (or top and bottom) mean the same.

    Args:
        inputs: The batch's inputs.
        probability: How likely an image is mirrored.
        direction: `horizontal` swaps left and right, `vertical` top and bottom.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        probability: Annotated[float, Ge(0), Le(1)] = 0.5,
        direction: Literal["horizontal", "vertical"] = "horizontal",
    ) -> None:
        super().__init__(inputs)
        self.require_images()
        self.probability, self.direction = probability, direction

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with images `[b, h, w, c]` mirrored or not; all images of a row alike."""
        chosen = draw.uniform(len(batch)) < self.probability
        axis = 2 if self.direction == "horizontal" else 1
        changed = {}
        for name in self.images:
            x = batch.inputs[name]
            changed[name] = torch.where(chosen.to(x.device).view(-1, 1, 1, 1), x.flip(axis), x)
        return self.replace(batch, changed)
