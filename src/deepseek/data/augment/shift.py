"""Shift: move images by a few pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from deepseek.data.augment.base import Augmentation, Draw
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec


class Shift(Augmentation):
    """Moves each image by a random number of pixels: the crop after padding of Krizhevsky et al. (2012, https://doi.org/10.1145/3065386).

    All images of a batch move in one gather, each by its own amount.

    Args:
        inputs: The batch's inputs.
        pixels: The furthest move up, down, left or right; where not given, it follows from `fraction`.
        fraction: The furthest move as a share of height and width.
        padding: What moves in from outside: `zero`, or the image's own mirror (`reflect`).
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        pixels: Annotated[int, Ge(0)] | None = None,
        fraction: Annotated[float, Ge(0), Le(0.5)] = 0.125,
        padding: Literal["zero", "reflect"] = "zero",
    ) -> None:
        super().__init__(inputs)
        self.require_images()
        self.pixels, self.fraction, self.padding = pixels, fraction, padding

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with images `[b, h, w, c]` moved; all images of a row by the same share of the furthest move."""
        drawn = draw.uniform(len(batch), 2)
        return self.replace(batch, {name: self._move(batch.inputs[name], drawn) for name in self.images})

    def _move(self, x: Tensor, drawn: Tensor) -> Tensor:
        rows, height, width, channels = x.shape
        drawn = drawn.to(x.device)
        y, y_inside = self._places(drawn[:, 0], height)
        z, z_inside = self._places(drawn[:, 1], width)
        first = torch.arange(rows, device=x.device)[:, None] * height
        flat = ((first + y) * width)[:, :, None] + z[:, None, :]
        moved = x.reshape(rows * height * width, channels)[flat.reshape(-1)].reshape(x.shape)
        if self.padding == "reflect":
            return moved
        return moved * (y_inside[:, :, None] & z_inside[:, None, :])[..., None].to(x.dtype)

    def _places(self, drawn: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return for each row and place along an axis where its pixel comes from, `[b, size]`, and whether that lies inside."""
        furthest = min(self.pixels if self.pixels is not None else round(self.fraction * size), size - 1)
        offset = (drawn * (2 * furthest + 1)).long().clamp(max=2 * furthest) - furthest
        place = torch.arange(size, device=drawn.device) + offset[:, None]
        inside = (place >= 0) & (place < size)
        mirrored = (size - 1 - (size - 1 - place.abs()).abs()) if size > 1 else torch.zeros_like(place)
        return mirrored, inside
