"""A compact convolutional network for small images, quick on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.models.base import Encoded
from deepseek.models.encoders.image import ImageEncoder, init_convolutions
from deepseek.models.layers import (
    ActivationName,
    ConvolutionNormalization,
    Probability,
    Width,
    make_convolution_normalization,
    make_map_activation,
)

SMALLEST_MAP = 3
LARGEST_MAP = 8


class CnnEncoder(ImageEncoder):
    """A stem, then stages that halve the image and widen it, some with residual blocks: the ResNet-9 family.

    How often the image is halved goes by its size: no stage halves below 3 pixels, and the stem of a large image strides so that the last
    map has at most 8.

    Source: David Page, "How to Train Your ResNet", 2018, https://myrtle.ai/how-to-train-your-resnet/.

    Args:
        channels: The channels of the stem and of each stage after it.
        blocks: The residual blocks of the stem and of each stage, as many numbers as `channels`; each is two convolutions.
        residual_every: A way round every so many convolutions of the blocks; 0 for none. Those left over at a stage's end have none.
        downsample: How a stage halves: `pool_first` (max-pooling, then the convolution; the cheapest), `pool_last`, or `stride`.
        normalization: `batch`, `group` (8 channels a group), `layer` (all channels) or `none`; all but `batch` are independent of it.
        activation: `relu`, `gelu`, `silu`, or an operator that is pointwise.
        pooling: How the last map becomes a vector: `mean` or `max`; with `none` each of its places is a token.
        dropout: The share of the pooled values that are dropped, in [0, 1).

    Raises:
        InputError: `blocks` and `channels` differ in length; or `residual_every` is so large that no way round would be made.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        channels: Annotated[list[Width], MinLen(1)] = [32, 64, 128, 256],  # noqa: B006 - a recipe's default is read, never written to
        blocks: list[Annotated[int, Ge(0)]] = [0, 1, 0, 1],  # noqa: B006
        residual_every: Annotated[int, Ge(0)] = 2,
        downsample: Literal["pool_first", "pool_last", "stride"] = "pool_first",
        normalization: ConvolutionNormalization = "batch",
        activation: ActivationName = "relu",
        pooling: Literal["mean", "max", "none"] = "mean",
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__(inputs)
        if len(blocks) != len(channels):
            raise InputError(
                f"blocks has {len(blocks)} numbers and channels {len(channels)}", hint="give one number of blocks for each stage"
            )
        if any(blocks) and residual_every > 2 * max(blocks):
            raise InputError(
                f"residual_every is {residual_every}, and no stage has more than {2 * max(blocks)} convolutions in its blocks",
                hint=f"at most {2 * max(blocks)}, more blocks, or 0",
            )
        self.pooling = pooling
        stem_stride, halved = plan_strides(self.side, len(channels) - 1)
        self.stages = nn.ModuleList()
        before, total, strides = self.channels, 1, []
        for index, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            stride = stem_stride if index == 0 else 2 if index <= halved else 1
            how = "stride" if index == 0 or stride == 1 else downsample
            parts = _step(before, width, stride=stride, how=how, normalization=normalization, activation=activation)
            parts += [ResidualConvolutions(width, normalization, activation, **kind) for kind in _blocks(2 * count, residual_every)]
            self.stages.append(nn.Sequential(*parts))
            before, total = width, total * stride
            strides.append(total)
        self.strides, self.width = tuple(strides), channels[-1]
        self.dropout = nn.Dropout(dropout)
        if pooling == "none":
            with torch.no_grad():
                last = self.eval().maps(torch.zeros(1, self.channels, *self.size))[-1]
            self.train()
            self.tokens = last.shape[2] * last.shape[3]
        init_convolutions(self)

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Return `[b, 1, width]`, or a token for each place, row by row, where nothing is pooled."""
        if self.pooling != "none":
            return super().forward(inputs)
        last = self.maps(inputs[self.input_name])[-1]
        return Encoded(self.dropout(last.flatten(2).transpose(1, 2)))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the map after the stem and after each stage."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def pool(self, last: Tensor) -> Tensor:
        """Turn the last map `[b, width, h, w]` into `[b, width]`."""
        return last.amax(dim=(2, 3)) if self.pooling == "max" else last.mean(dim=(2, 3))


class ResidualConvolutions(nn.Module):
    """3×3 convolutions with a way round.

    Args:
        width: Channels in and out.
        normalization: As in `CnnEncoder`.
        activation: As in `CnnEncoder`.
        convolutions: How many there are.
        residual: Whether there is a way round.
    """

    def __init__(
        self,
        width: int,
        normalization: ConvolutionNormalization,
        activation: ActivationName,
        *,
        convolutions: int = 2,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.residual = residual
        layers = [_convolution(width, width, normalization=normalization, activation=activation) for _ in range(convolutions)]
        self.branch = nn.Sequential(*(part for layer in layers for part in layer))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, c, h, w]` to the same shape."""
        out: Tensor = self.branch(x)
        return x + out if self.residual else out


def _blocks(convolutions: int, every: int) -> list[dict[str, Any]]:
    """Return how so many convolutions are put into blocks: a way round every so many, none around what is left over."""
    whole, rest = divmod(convolutions, every) if every else (0, convolutions)
    plain: list[dict[str, Any]] = [{"convolutions": rest, "residual": False}] if rest else []
    return [{"convolutions": every, "residual": True}] * whole + plain


def plan_strides(side: int, stages: int) -> tuple[int, int]:
    """Return the stem's stride and how many of the stages halve the image.

    Args:
        side: The image's shorter side in pixels.
        stages: How many stages follow the stem.

    Example:
        >>> plan_strides(28, 3), plan_strides(8, 3), plan_strides(224, 3)
        ((1, 3), (1, 1), (4, 3))
    """
    halved = 0
    while halved < stages and side >> (halved + 1) >= SMALLEST_MAP:
        halved += 1
    stem = 1
    while (side // stem) >> halved > LARGEST_MAP:
        stem *= 2
    return stem, halved


def _step(
    before: int, width: int, *, stride: int, how: str, normalization: ConvolutionNormalization, activation: ActivationName
) -> list[nn.Module]:
    pool: list[nn.Module] = [nn.MaxPool2d(2)]
    inner = stride if how == "stride" else 1
    convolution = _convolution(before, width, stride=inner, normalization=normalization, activation=activation)
    return pool + convolution if how == "pool_first" else convolution + pool if how == "pool_last" else convolution


def _convolution(
    before: int, width: int, *, stride: int = 1, normalization: ConvolutionNormalization, activation: ActivationName
) -> list[nn.Module]:
    size = max(3, 2 * stride - 1)
    convolution = nn.Conv2d(before, width, size, stride, size // 2, bias=normalization == "none")
    return [convolution, make_convolution_normalization(normalization, width), make_map_activation(activation, width)]
