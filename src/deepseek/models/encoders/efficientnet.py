"""EfficientNet, scaled by width and depth, with the parameter names of torchvision, so that public weights fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, NamedTuple

from annotated_types import Gt
from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.models.encoders.image import ImageEncoder, init_convolutions, load_weights
from deepseek.models.layers import Probability, StochasticDepth

SMALLEST_MAP = 4


class _Stage(NamedTuple):
    expansion: int
    kernel: int
    stride: int
    before: int
    width: int
    layers: int


_B0 = (
    _Stage(1, 3, 1, 32, 16, 1),
    _Stage(6, 3, 2, 16, 24, 2),
    _Stage(6, 5, 2, 24, 40, 2),
    _Stage(6, 3, 2, 40, 80, 3),
    _Stage(6, 5, 1, 80, 112, 3),
    _Stage(6, 5, 2, 112, 192, 4),
    _Stage(6, 3, 1, 192, 320, 1),
)


class EfficientNetEncoder(ImageEncoder):
    """Inverted bottlenecks with squeeze-and-excitation, scaled from B0 by two coefficients, without the classifier.

    B0 is (1.0, 1.0), B1 (1.0, 1.1), B2 (1.1, 1.2), B3 (1.2, 1.4), B4 (1.4, 1.8). On small images the first strides are left out until the
    last map has at least 4 pixels; weights keep their shapes.

    Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
        https://arxiv.org/abs/1905.11946.

    Args:
        width_coefficient: The channels as a multiple of B0's, rounded to multiples of 8.
        depth_coefficient: The layers of each stage as a multiple of B0's, rounded up.
        dropout: The share of the pooled values that are dropped, in [0, 1).
        stochastic_depth: The share of rows that leave out the last block; earlier blocks less, in proportion. In [0, 1).
        pretrained: A safetensors file with torchvision's names; its `classifier` is left out. Nothing to begin with random weights.

    Raises:
        InputError: The weights do not fit; the message names missing and unexpected keys.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        width_coefficient: Annotated[float, Gt(0.0)] = 1.0,
        depth_coefficient: Annotated[float, Gt(0.0)] = 1.0,
        dropout: Probability = 0.2,
        stochastic_depth: Probability = 0.2,
        pretrained: str | None = None,
    ) -> None:
        super().__init__(inputs)
        stages = [_scaled(stage, width_coefficient, depth_coefficient) for stage in _B0]
        strides = _strides(self.side, [2, *(stage.stride for stage in stages)])
        features: list[nn.Module] = [_convolution(self.channels, stages[0].before, 3, strides[0])]
        total, done = sum(stage.layers for stage in stages), 0
        for stage, stride in zip(stages, strides[1:], strict=True):
            shares = [stochastic_depth * (done + place) / total for place in range(stage.layers)]
            features.append(_stage(stage._replace(stride=stride), shares))
            done += stage.layers
        self.width = 4 * stages[-1].width
        features.append(_convolution(stages[-1].width, self.width, 1, 1))
        self.features = nn.Sequential(*features)
        self.dropout = nn.Dropout(dropout)
        sizes = [math.prod(strides[: place + 1]) for place in range(len(strides))]
        # A stride's map is the last one before the next halving; the four smallest are handed out.
        self._tapped = [*(place for place, size in enumerate(sizes[:-1]) if sizes[place + 1] != size), len(features) - 1][-4:]
        self.strides = tuple(sizes[min(place, len(sizes) - 1)] for place in self._tapped)
        init_convolutions(self)
        self.checkpoint = pretrained
        if pretrained is not None:
            load_weights(self, pretrained, classifier=("classifier.1.weight", "classifier.1.bias"))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the last map of each of the last four strides."""
        maps = []
        for place, stage in enumerate(self.features):
            x = stage(x)
            if place in self._tapped:
                maps.append(x)
        return maps


class InvertedBottleneck(nn.Module):
    """1×1 widening, depthwise convolution, squeeze-and-excitation, 1×1 narrowing, with a way round where the shape allows.

    Args:
        stage: The settings; `before` and `stride` are this layer's.
        share: The share of rows whose branch is left out while training.
    """

    def __init__(self, stage: _Stage, share: float) -> None:
        super().__init__()
        inner = _rounded(stage.before * stage.expansion)
        layers: list[nn.Module] = [] if inner == stage.before else [_convolution(stage.before, inner, 1, 1)]
        layers += [
            _convolution(inner, inner, stage.kernel, stage.stride, groups=inner),
            SqueezeExcitation(inner, max(1, stage.before // 4)),
            _convolution(inner, stage.width, 1, 1, activation=False),
        ]
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(share)
        self.residual = stage.stride == 1 and stage.before == stage.width

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, before, h, w]` to `[b, width, h/stride, w/stride]`."""
        out: Tensor = self.block(x)
        return x + self.stochastic_depth(out) if self.residual else out


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate that sees the means of all channels (Hu et al., 2018, https://arxiv.org/abs/1709.01507).

    Args:
        width: Channels.
        squeezed: Channels between the two layers of the gate.
    """

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, width, 1)
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, c, h, w]` to the same shape."""
        gate: Tensor = self.fc2(self.activation(self.fc1(x.mean(dim=(2, 3), keepdim=True))))
        return x * gate.sigmoid()


def _stage(stage: _Stage, shares: list[float]) -> nn.Sequential:
    rest = stage._replace(before=stage.width, stride=1)
    return nn.Sequential(*(InvertedBottleneck(rest if place else stage, share) for place, share in enumerate(shares)))


def _scaled(stage: _Stage, width: float, depth: float) -> _Stage:
    return stage._replace(
        before=_rounded(stage.before * width), width=_rounded(stage.width * width), layers=math.ceil(stage.layers * depth)
    )


def _rounded(channels: float) -> int:
    """Round to a multiple of 8 without losing more than a tenth, as the published networks do."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def _strides(side: int, strides: list[int]) -> list[int]:
    """Leave out strides, the first ones first, until the last map has at least 4 pixels."""
    kept = list(strides)
    while side < SMALLEST_MAP * math.prod(kept) and max(kept) > 1:
        kept[kept.index(max(kept))] = 1
    return kept


def _convolution(before: int, width: int, kernel: int, stride: int, *, groups: int = 1, activation: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(before, width, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(width)]
    return nn.Sequential(*layers, nn.SiLU()) if activation else nn.Sequential(*layers)
