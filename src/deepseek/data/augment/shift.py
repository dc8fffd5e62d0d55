"""Shift: move images by a few pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from deepseek.data.augment.base import Draw
from deepseek.data.augment.geometry import Geometric, translation
from deepseek.data.transforms.base import InputSpec


class Shift(Geometric):
    """Moves each image by a random number of pixels: the crop after padding of Krizhevsky et al. (2012, https://doi.org/10.1145/3065386).

    All images of a batch move in one gather, each by its own amount.

    Args:
        inputs: The batch's inputs.
        pixels: The furthest move up, down, left or right; where not given, it follows from `fraction`.
        fraction: The furthest move as a share of height and width.
        padding: What moves in from outside: `zero`, or the image's own mirror (`reflect`).
    """

    resamples = False

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
        self.furthest, self.fraction, self.padding = pixels, fraction, padding

    def draws(self, draw: Draw, rows: int) -> Tensor:
        """Return two numbers a row, `[b, 2]`: how far down and how far across, as shares of the furthest move."""
        return draw.uniform(rows, 2)

    def maps(self, drawn: Tensor, height: int, width: int) -> Tensor:
        """Return moves by whole pixels, `[b, 3, 3]`."""
        return translation(-self._offset(drawn[:, 1], width), -self._offset(drawn[:, 0], height))

    def pixels(self, x: Tensor, drawn: Tensor, *, nearest: bool) -> Tensor:
        """Return images moved, exactly; all images of a row by the same share of the furthest move."""
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
        place = torch.arange(size, device=drawn.device) + self._offset(drawn, size)[:, None]
        inside = (place >= 0) & (place < size)
        mirrored = (size - 1 - (size - 1 - place.abs()).abs()) if size > 1 else torch.zeros_like(place)
        return mirrored, inside

    def _offset(self, drawn: Tensor, size: int) -> Tensor:
        furthest = min(self.furthest if self.furthest is not None else round(self.fraction * size), size - 1)
        return (drawn * (2 * furthest + 1)).long().clamp(max=2 * furthest) - furthest
