"""Flip: mirror images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from deepseek.data.augment.base import Draw
from deepseek.data.augment.geometry import Geometric
from deepseek.data.augment.selection import changed_where
from deepseek.data.transforms.base import InputSpec


class Flip(Geometric):
    """Mirrors each image with some probability; right where left and right (or top and bottom) mean the same.

    Args:
        inputs: The batch's inputs.
        probability: How likely an image is mirrored.
        direction: `horizontal` swaps left and right, `vertical` top and bottom.
    """

    resamples = False

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        probability: Annotated[float, Ge(0), Le(1)] = 0.5,
        direction: Literal["horizontal", "vertical"] = "horizontal",
    ) -> None:
        super().__init__(inputs)
        self.probability, self.direction = probability, direction

    def draws(self, draw: Draw, rows: int) -> Tensor:
        """Return one number a row, `[b]`."""
        return draw.uniform(rows)

    def maps(self, drawn: Tensor, height: int, width: int) -> Tensor:
        """Return the mirror where a row is chosen, `[b, 3, 3]`."""
        axis, size = (0, width) if self.direction == "horizontal" else (1, height)
        mirror = torch.eye(3, dtype=torch.float64)
        mirror[axis, axis], mirror[axis, 2] = -1, size
        return torch.where((drawn < self.probability)[:, None, None], mirror, torch.eye(3, dtype=torch.float64))

    def pixels(self, x: Tensor, drawn: Tensor, *, nearest: bool) -> Tensor:
        """Return images mirrored or not, exactly."""
        axis = 2 if self.direction == "horizontal" else 1
        return changed_where(drawn < self.probability, x, lambda rows: rows.flip(axis))
