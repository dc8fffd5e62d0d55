"""ColorJitter: brightness, contrast, saturation and hue, as one matrix for each image."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from deepseek.data.augment.base import Augmentation, Draw
from deepseek.data.augment.selection import put
from deepseek.data.augment.warp import blocks
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec

BLOCK_PIXELS = 1 << 18
_LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], dtype=torch.float64)
_TOGETHER = (4, 2, 1)
"""Pixels that share a row of the matrix product: three numbers alone leave a processor's units idle."""


class Recolouring(Augmentation):
    """A linear change of each image's colours: a matrix on the channels of every pixel, and some of the mean grey added.

    Bytes stay between 0 and 255, floats are taken as 0 to 1 and stay there.

    Args:
        inputs: The batch's inputs.

    Attributes:
        numbers: How many random numbers a row needs.
    """

    numbers: ClassVar[int]

    def __init__(self, inputs: Mapping[str, InputSpec], /) -> None:
        super().__init__(inputs)
        self.require_images()

    @abstractmethod
    def change(self, drawn: Tensor, channels: int) -> tuple[Tensor, Tensor]:
        """Return matrices `[b, c, c]`, from the old channels (columns) to the new (rows), and each row's share of the mean grey, `[b]`.

        Args:
            drawn: float64 `[b, numbers]`, in `[0, 1)`.
            channels: 1, or 3 for red, green and blue.
        """

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with images `[b, h, w, c]` of one or three channels recoloured; others stay, and all of a row change alike."""
        drawn = draw.uniform(len(batch), self.numbers).double()
        changed = {}
        for name in self.images:
            x = batch.inputs[name]
            if x.shape[3] in (1, 3):
                changed[name] = recoloured(x, *self.change(drawn, x.shape[3]))
        return self.replace(batch, changed)


class ColorJitter(Recolouring):
    """Changes brightness, contrast, saturation and hue at random.

    A factor is drawn evenly from `1 - value` to `1 + value`. In this order pixels are multiplied by the brightness, drawn to or from the
    image's mean grey by the contrast, drawn to or from their own grey by the saturation, and turned about the axis of greys by the hue: a
    turn of the two colour axes of YIQ, which leaves the luminance as it is. The four are one matrix, so that values are cut to their range
    once and not after each; of grey images only brightness and contrast change.

    Args:
        inputs: The batch's inputs.
        brightness: The furthest change of the brightness.
        contrast: The furthest change of the contrast.
        saturation: The furthest change of the saturation.
        hue: The furthest turn of the hue to either side, as a share of a full one.
        probability: How likely an image is changed.
    """

    numbers = 5

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        brightness: Annotated[float, Ge(0), Le(1)] = 0.2,
        contrast: Annotated[float, Ge(0), Le(1)] = 0.2,
        saturation: Annotated[float, Ge(0), Le(1)] = 0.2,
        hue: Annotated[float, Ge(0), Le(0.5)] = 0.0,
        probability: Annotated[float, Ge(0), Le(1)] = 1.0,
    ) -> None:
        super().__init__(inputs)
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self.probability = probability

    def change(self, drawn: Tensor, channels: int) -> tuple[Tensor, Tensor]:
        """Return the four changes as one."""
        signed = (drawn[:, 1:] * 2 - 1) * (drawn[:, :1] < self.probability)
        brightness, contrast = 1 + signed[:, 0] * self.brightness, 1 + signed[:, 1] * self.contrast
        scale = (brightness * contrast)[:, None, None]
        grey = (1 - contrast) * brightness
        if channels == 1:
            return scale, grey
        saturation = (1 + signed[:, 2] * self.saturation)[:, None, None]
        toned = saturation * torch.eye(3, dtype=torch.float64) + (1 - saturation) * _LUMA.expand(3, 3)
        angle = signed[:, 3] * self.hue * 2 * math.pi
        turn = torch.eye(3, dtype=torch.float64).repeat(len(drawn), 1, 1)
        turn[:, 1, 1] = turn[:, 2, 2] = torch.cos(angle)
        turn[:, 1, 2], turn[:, 2, 1] = torch.sin(angle), -torch.sin(angle)
        return scale * (torch.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ) @ toned, grey


class Grayscale(Recolouring):
    """Takes the colour out of some images, so that shape has to do.

    Args:
        inputs: The batch's inputs.
        probability: How likely an image becomes grey.
    """

    numbers = 1

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, probability: Annotated[float, Ge(0), Le(1)] = 0.1) -> None:
        super().__init__(inputs)
        self.probability = probability

    def change(self, drawn: Tensor, channels: int) -> tuple[Tensor, Tensor]:
        """Return the luminance for every channel where a row is chosen."""
        kept = torch.eye(channels, dtype=torch.float64)
        grey = _LUMA.expand(3, 3) if channels == 3 else kept
        return torch.where((drawn < self.probability)[..., None], grey, kept), torch.zeros(len(drawn), dtype=torch.float64)


def recoloured(x: Tensor, matrix: Tensor, grey: Tensor) -> Tensor:
    """Return images with a matrix on every pixel's channels, and a share of each image's mean luminance added.

    Args:
        x: `[b, h, w, c]`, `c` being 1 or 3.
        matrix: float64 `[b, c, c]`.
        grey: float64 `[b]`.
    """
    rows, height, width, channels = x.shape
    whole = x.dtype == torch.uint8
    together = next(count for count in _TOGETHER if height * width % count == 0)
    wide = torch.zeros(rows, together * channels, together * channels, dtype=torch.float32)
    for place in range(0, together * channels, channels):
        wide[:, place : place + channels, place : place + channels] = matrix.transpose(1, 2)
    wide, share = wide.to(x.device), grey.to(x.device, torch.float32)
    luma = (_LUMA if channels == 3 else torch.ones(1)).to(x.device, torch.float32)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for part in blocks(x, BLOCK_PIXELS // max(height * width, 1)):
        pixels = x[part].reshape(-1, height * width // together, together * channels).float()
        mean = pixels.mean(dim=1).reshape(-1, together, channels).mean(dim=1) @ luma
        added = (mean * share[part])[:, None, None] + (0.5 if whole else 0.0)  # half a step, as bytes are cut off below
        made = torch.baddbmm(added, pixels, wide[part]).clamp_(0, 255.5 if whole else 1)
        put(out[part], made.view(-1, height, width, channels))
    return out
