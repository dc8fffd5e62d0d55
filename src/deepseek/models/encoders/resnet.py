"""Residual networks for images, with the parameter names of torchvision, so that public weights fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.models.encoders.image import ImageEncoder, init_convolutions, load_weights
from deepseek.models.layers import ConvolutionNormalization, make_convolution_normalization

SMALL_SIDE = 64
_STAGES: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


class ResNetEncoder(ImageEncoder):
    """ResNet of 18 to 152 layers, without its classifier.

    Images of at most 64 pixels get the stem that He et al. took for CIFAR (a 3×3 convolution that keeps the size); the ordinary stem would
    leave a 28-pixel image one pixel wide. The stride of the deeper blocks is in the 3×3 convolution, as in torchvision ("ResNet v1.5").

    Source: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385.

    Args:
        depth: 18, 34, 50, 101 or 152.
        stem: `large` (7×7, stride 4 in all), `small` (3×3, stride 1), or `auto` by the image's size.
        normalization: `batch`, as in the paper, `group` (8 channels a group), `layer` (all channels) or `none`, where branches begin
            smaller the more there are (Hayou et al., "Stable ResNet", AISTATS 2021, https://arxiv.org/abs/2010.12859).
        pretrained: A safetensors file with torchvision's names; its classifier `fc` is left out. Nothing to begin with random weights.

    Raises:
        InputError: The weights do not fit; the message names missing and unexpected keys. Public ones come with batch normalisation.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        depth: Literal[18, 34, 50, 101, 152] = 18,
        stem: Literal["auto", "large", "small"] = "auto",
        normalization: ConvolutionNormalization = "batch",
        pretrained: str | None = None,
    ) -> None:
        super().__init__(inputs)
        if pretrained is not None and normalization != "batch":
            raise InputError(
                f"normalization is {normalization!r} with pre-trained weights", hint="public weights have 'batch'; or leave pretrained out"
            )
        small = self.side <= SMALL_SIDE if stem == "auto" else stem == "small"
        size, step = (3, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(self.channels, 64, size, step, size // 2, bias=normalization == "none")
        self.bn1 = make_convolution_normalization(normalization, 64)
        self.relu = nn.ReLU(inplace=True)  # backward needs its result alone, so that no second map has to be kept
        self.maxpool: nn.Module = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        block = BasicBlock if depth < 50 else Bottleneck
        counts, before = _STAGES[depth], 64
        for index, count in enumerate(counts):
            width, stride = 64 << index, 1 if index == 0 else 2
            stage = nn.Sequential()
            for place in range(count):
                stage.append(block(before, width, stride if place == 0 else 1, normalization=normalization))
                before = width * block.expansion
            setattr(self, f"layer{index + 1}", stage)
        self.width = before
        self.strides = (1, 2, 4, 8) if small else (4, 8, 16, 32)
        init_convolutions(self)
        if normalization == "none":
            _shrink_branches([part for part in self.modules() if isinstance(part, BasicBlock | Bottleneck)])
        self.checkpoint = pretrained
        if pretrained is not None:
            load_weights(self, pretrained, classifier=("fc.weight", "fc.bias"))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the map after each of the four stages."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for index in range(1, 5):
            x = getattr(self, f"layer{index}")(x)
            maps.append(x)
        return maps


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a way round: the block of the 18- and 34-layer networks.

    Args:
        before: Channels in.
        width: Channels out.
        stride: 1, or 2 to halve the map.
        normalization: As of the encoder.
    """

    expansion = 1

    def __init__(self, before: int, width: int, stride: int, *, normalization: ConvolutionNormalization = "batch") -> None:
        super().__init__()
        plain = normalization == "none"  # nothing else then has a bias
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=plain)
        self.bn1 = make_convolution_normalization(normalization, width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=plain)
        self.bn2 = make_convolution_normalization(normalization, width)
        self.downsample = _projection(before, width, stride, normalization)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, before, h, w]` to `[b, width, h/stride, w/stride]`."""
        way_round = x if self.downsample is None else self.downsample(x)
        inner = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.bn2(self.conv2(inner))
        out += way_round
        activated: Tensor = self.relu(out)
        return activated


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions with a way round: the block of the deeper networks.

    Args:
        before: Channels in.
        width: Channels of the 3×3 convolution; four times as many go out.
        stride: 1, or 2 to halve the map.
        normalization: As of the encoder.
    """

    expansion = 4

    def __init__(self, before: int, width: int, stride: int, *, normalization: ConvolutionNormalization = "batch") -> None:
        super().__init__()
        plain = normalization == "none"  # nothing else then has a bias
        self.conv1 = nn.Conv2d(before, width, 1, bias=plain)
        self.bn1 = make_convolution_normalization(normalization, width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=plain)
        self.bn2 = make_convolution_normalization(normalization, width)
        self.conv3 = nn.Conv2d(width, width * 4, 1, bias=plain)
        self.bn3 = make_convolution_normalization(normalization, width * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(before, width * 4, stride, normalization)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, before, h, w]` to `[b, 4·width, h/stride, w/stride]`."""
        way_round = x if self.downsample is None else self.downsample(x)
        inner = self.relu(self.bn1(self.conv1(x)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        out: Tensor = self.bn3(self.conv3(inner))
        out += way_round
        activated: Tensor = self.relu(out)
        return activated


def _projection(before: int, after: int, stride: int, normalization: ConvolutionNormalization) -> nn.Sequential | None:
    if stride == 1 and before == after:
        return None
    convolution = nn.Conv2d(before, after, 1, stride, bias=normalization == "none")
    return nn.Sequential(convolution, make_convolution_normalization(normalization, after))


@torch.no_grad()
def _shrink_branches(blocks: Sequence[BasicBlock | Bottleneck]) -> None:
    """Divide what blocks add at the start by the root of their number.

    With nothing that normalises, each would add as much as comes into it, and maps behind 50 blocks be of the size of ten millions.
    """
    for block in blocks:
        last = block.conv3 if isinstance(block, Bottleneck) else block.conv2
        last.weight.mul_(len(blocks) ** -0.5)
