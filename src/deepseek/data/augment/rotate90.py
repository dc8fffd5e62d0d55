"""Rotate90: quarter turns, which lose no pixel."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from deepseek.data.augment.base import Draw
from deepseek.data.augment.geometry import Geometric
from deepseek.data.augment.selection import changed_where
from deepseek.data.transforms.base import InputSpec


class Rotate90(Geometric):
    """Turns each image by one, two or three quarters, exactly; for what has no upright: cells, satellite views, textures.

    Only the half turn is made where height and width differ, as a batch has one size.

    Args:
        inputs: The batch's inputs.
        probability: How likely an image is turned.
    """

    resamples = False

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, probability: Annotated[float, Ge(0), Le(1)] = 0.75) -> None:
        super().__init__(inputs)
        self.probability = probability

    def draws(self, draw: Draw, rows: int) -> Tensor:
        """Return two numbers a row, `[b, 2]`: whether, and how far."""
        return draw.uniform(rows, 2)

    def maps(self, drawn: Tensor, height: int, width: int) -> Tensor:
        """Return turns about the image's centre, `[b, 3, 3]`."""
        quarters = self._quarters(drawn, height, width)
        sine = torch.tensor([0, -1, 0, 1], dtype=torch.float64)[quarters]
        cosine = torch.tensor([1, 0, -1, 0], dtype=torch.float64)[quarters]
        matrix = torch.eye(3, dtype=torch.float64).repeat(len(drawn), 1, 1)
        matrix[:, 0, 0] = matrix[:, 1, 1] = cosine
        matrix[:, 0, 1], matrix[:, 1, 0] = -sine, sine
        matrix[:, 0, 2] = width / 2 * (1 - cosine) + height / 2 * sine
        matrix[:, 1, 2] = height / 2 * (1 - cosine) - width / 2 * sine
        return matrix

    def pixels(self, x: Tensor, drawn: Tensor, *, nearest: bool) -> Tensor:
        """Return images turned or not, exactly."""
        quarters = self._quarters(drawn, x.shape[1], x.shape[2])
        for count in (1, 2, 3) if x.shape[1] == x.shape[2] else (2,):
            x = changed_where(quarters == count, x, partial(torch.rot90, k=count, dims=(1, 2)))
        return x

    def _quarters(self, drawn: Tensor, height: int, width: int) -> Tensor:
        """Return how many quarters each row is turned by, against the clock, int64 `[b]`."""
        quarters = 1 + (drawn[:, 1] * 3).long().clamp(max=2) if height == width else torch.full((len(drawn),), 2)
        return torch.where(drawn[:, 0] < self.probability, quarters, 0)
