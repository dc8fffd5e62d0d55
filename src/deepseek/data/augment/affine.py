"""Affine: rotate, scale, move and shear images in one resampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from deepseek.data.augment.geometry import RandomMap, translation
from deepseek.data.augment.warp import Padding
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError

Probability = Annotated[float, Ge(0), Le(1)]
Degrees = Annotated[float, Ge(0), Le(180)]
Factor = Annotated[float, Gt(0)]


class Affine(RandomMap):
    """Rotates, scales, shears and moves each image about its centre, in a single resampling.

    Args:
        inputs: The batch's inputs.
        probability: How likely an image is changed.
        degrees: The furthest rotation to either side.
        scale: The least and the largest factor of size; drawn evenly in its logarithm, so that half is as likely as double.
        shift: The furthest move as a share of height and width, to either side.
        shear: The furthest slant of either axis in degrees, below 90.
        padding: What moves in from outside: `zero`, the nearest pixel of the `edge`, or the image's mirror (`reflect`).

    Raises:
        InputError: The largest factor is below the least.
    """

    numbers = 6

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        probability: Probability = 1.0,
        degrees: Degrees = 15.0,
        scale: tuple[Factor, Factor] = (0.9, 1.1),
        shift: Annotated[float, Ge(0), Le(1)] = 0.1,
        shear: Annotated[float, Ge(0), Le(80)] = 0.0,
        padding: Padding = "zero",
    ) -> None:
        super().__init__(inputs, probability=probability, padding=padding)
        self.degrees, self.scale, self.shift, self.shear = degrees, ordered("scale", scale), shift, shear

    def matrix(self, drawn: Tensor, height: int, width: int) -> Tensor:
        """Return the maps: to the centre, slanted, scaled, turned, moved, and back."""
        signed = drawn * 2 - 1
        angle = signed[:, 0] * math.radians(self.degrees)
        low, high = map(math.log, self.scale)
        factor = torch.exp(low + (high - low) * drawn[:, 1])
        slant = torch.tan(signed[:, 2:4] * math.radians(self.shear))
        sine, cosine = torch.sin(angle) * factor, torch.cos(angle) * factor
        turned = torch.eye(3, dtype=torch.float64).repeat(len(drawn), 1, 1)
        turned[:, 0, 0], turned[:, 0, 1], turned[:, 1, 0], turned[:, 1, 1] = cosine, -sine, sine, cosine
        slanted = torch.eye(3, dtype=torch.float64).repeat(len(drawn), 1, 1)
        slanted[:, 0, 1], slanted[:, 1, 0] = slant[:, 0], slant[:, 1]
        across, down = torch.full_like(angle, width / 2), torch.full_like(angle, height / 2)
        placed = translation(across + signed[:, 4] * self.shift * width, down + signed[:, 5] * self.shift * height)
        return placed @ turned @ slanted @ translation(-across, -down)


class Rotate(Affine):
    """Turns each image about its centre.

    Args:
        inputs: The batch's inputs.
        degrees: The furthest rotation to either side.
        probability: How likely an image is changed.
        padding: What moves in from outside: `zero`, the nearest pixel of the `edge`, or the image's mirror (`reflect`).
    """

    def __init__(
        self, inputs: Mapping[str, InputSpec], /, *, degrees: Degrees = 15.0, probability: Probability = 1.0, padding: Padding = "zero"
    ) -> None:
        super().__init__(inputs, probability=probability, degrees=degrees, scale=(1.0, 1.0), shift=0.0, padding=padding)


class Scale(Affine):
    """Makes what an image shows larger or smaller, about its centre.

    Args:
        inputs: The batch's inputs.
        scale: The least and the largest factor of size; drawn evenly in its logarithm.
        probability: How likely an image is changed.
        padding: What moves in from outside: `zero`, the nearest pixel of the `edge`, or the image's mirror (`reflect`).
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        scale: tuple[Factor, Factor] = (0.8, 1.25),
        probability: Probability = 1.0,
        padding: Padding = "zero",
    ) -> None:
        super().__init__(inputs, probability=probability, degrees=0.0, scale=scale, shift=0.0, padding=padding)


class Crop(RandomMap):
    """Shows a random part of each image in the whole's place: Inception's crop (Szegedy et al. 2015, https://arxiv.org/abs/1409.4842).

    Args:
        inputs: The batch's inputs.
        area: The least and the largest share of the image's area that is shown.
        ratio: The narrowest and the widest part, as width by height compared with the image's own; drawn evenly in its logarithm. A part
            wider or higher than the image is cut to it.
        probability: How likely an image is changed.

    Raises:
        InputError: The larger of two bounds is below the lesser.
    """

    numbers = 4

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        area: tuple[Annotated[float, Gt(0), Le(1)], Annotated[float, Gt(0), Le(1)]] = (0.25, 1.0),
        ratio: tuple[Factor, Factor] = (0.75, 4 / 3),
        probability: Probability = 1.0,
    ) -> None:
        super().__init__(inputs, probability=probability)
        self.area, self.ratio = ordered("area", area), ordered("ratio", ratio)

    def matrix(self, drawn: Tensor, height: int, width: int) -> Tensor:
        """Return the maps that stretch a part over the whole."""
        low, high = self.area
        share = low + (high - low) * drawn[:, 0]
        least, most = map(math.log, self.ratio)
        form = torch.exp(least + (most - least) * drawn[:, 1])
        across, down = (share * form).sqrt().clamp(max=1.0), (share / form).sqrt().clamp(max=1.0)
        left, top = drawn[:, 2] * (1 - across) * width, drawn[:, 3] * (1 - down) * height
        matrix = translation(-left / across, -top / down)
        matrix[:, 0, 0], matrix[:, 1, 1] = 1 / across, 1 / down
        return matrix


def ordered(key: str, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the least and the largest value of a key.

    Raises:
        InputError: The largest is below the least.
    """
    low, high = bounds
    if high < low:
        raise InputError(f"{key} is {[low, high]}", hint="write the least value first")
    return low, high
