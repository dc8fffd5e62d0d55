"""A detector of one stage without anchors: a backbone, features mixed across scales, and two towers on each of three grids.

Legend of shapes: `b` pictures · `c` channels · `h`, `w` height and width of a map · `p` places of all grids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.network import FeatureNetwork

STRIDES = (8, 16, 32)
_CHANNELS = (32, 64, 128, 256, 512)
_BLOCKS = (1, 2, 3, 1)
_POOLS = (5, 9, 13)
_TOWER = 128
_PLACE = 3


class DetectorModel(FeatureNetwork):
    """Finds objects: what a `detection` task asks at places 8, 16 and 32 pixels apart.

    A backbone of cross-stage partial blocks (Wang et al., "CSPNet", 2019, https://arxiv.org/abs/1911.11929) with pooling at several sizes
    on its last map (He et al. 2014, https://arxiv.org/abs/1406.4729); features go down the scales (Lin et al., "Feature pyramid networks",
    2017, https://arxiv.org/abs/1612.03144) and up again (Liu et al., "Path aggregation network", 2018, https://arxiv.org/abs/1803.01534);
    on each grid scores and boxes have towers of their own (Tian et al., "FCOS", 2019, https://arxiv.org/abs/1904.01355; Ge et al., "YOLOX",
    2021, https://arxiv.org/abs/2107.08430). About 8 million numbers at width 1. The picture is the only input; of any size, best a multiple
    of 32.

    Args:
        width: All channels as a multiple of 32, 64, 128, 256 and 512, in (0, 4].
        depth: The blocks of the backbone's stages as a multiple of 1, 2, 3 and 1, in (0, 4]; each has at least one.

    Attributes:
        width: The features of a place: half of them for scores, half for boxes, and three that say where it is.

    Raises:
        InputError: There is not exactly one input, or it is no picture.

    Example:
        >>> from deepseek.data.transforms.modules import ImageModule
        >>> picture = InputSpec("picture", Kind.IMAGE, ("picture",), (64, 96, 3), "uint8")
        >>> network = DetectorModel({"picture": picture}, {"picture": ImageModule([0.0] * 3, [1.0] * 3)}, width=0.25)
        >>> network({"picture": torch.zeros(2, 64, 96, 3, dtype=torch.uint8)}).shape
        torch.Size([2, 126, 67])
    """

    features = "places"

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        graph: Mapping[str, nn.Module],
        /,
        *,
        width: Annotated[float, Gt(0.0), Le(4.0)] = 1.0,
        depth: Annotated[float, Gt(0.0), Le(4.0)] = 1.0,
    ) -> None:
        super().__init__(inputs, graph)
        pictures = [name for name, spec in self.seen.items() if spec.kind is Kind.IMAGE and len(spec.shape) == 3]
        if len(self.seen) != 1 or not pictures:
            raise InputError(
                f"a detector is given the inputs {', '.join(self.seen)}", hint="it takes one column of pictures; drop the others"
            )
        self.picture = pictures[0]
        channels = [max(8, round(full * width / 8) * 8) for full in _CHANNELS]
        blocks = [max(1, round(full * depth)) for full in _BLOCKS]
        self.backbone = Backbone(self.seen[self.picture].shape[0], channels, blocks)
        self.neck = Neck(channels[2:], max(1, round(depth)))
        tower = max(8, round(_TOWER * width / 8) * 8)
        self.towers = nn.ModuleList([Towers(size, tower) for size in channels[2:]])
        self.width = 2 * tower + _PLACE
        _initialize(self)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the features of all places, `[b, p, width]`: those of the finest grid first, row by row."""
        maps = self.neck(self.backbone(self.ready(inputs)[self.picture]))
        made = [towers(x) for towers, x in zip(self.towers, maps, strict=True)]
        places = torch.cat([_places(x, stride) for x, stride in zip(maps, STRIDES, strict=True)])
        features = torch.cat([x.flatten(2).transpose(1, 2) for x in made], dim=1)
        return torch.cat([features, places.to(features.device)[None].expand(features.shape[0], -1, -1)], dim=-1)


class Unit(nn.Sequential):
    """A convolution, batch normalisation and SiLU.

    Args:
        before: Channels in.
        after: Channels out.
        size: Height and width of the kernel, odd.
        stride: By how much the map becomes smaller.
    """

    def __init__(self, before: int, after: int, size: int = 1, *, stride: int = 1) -> None:
        convolution = nn.Conv2d(before, after, size, stride=stride, padding=size // 2, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(after), nn.SiLU())


class PartialStage(nn.Module):
    """Blocks on one half of the channels, the other half led past them and joined again (Wang et al. 2019).

    Args:
        before: Channels in.
        after: Channels out.
        blocks: How many blocks.
        residual: Whether each has a way round.
    """

    def __init__(self, before: int, after: int, blocks: int, *, residual: bool = True) -> None:
        super().__init__()
        half = max(after // 2, 1)
        self.through, self.past = Unit(before, half), Unit(before, half)
        self.blocks = nn.ModuleList([nn.Sequential(Unit(half, half), Unit(half, half, 3)) for _ in range(blocks)])
        self.join = Unit(2 * half, after)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, before, h, w]` to `[b, after, h, w]`."""
        inner = self.through(x)
        for block in self.blocks:
            inner = inner + block(inner) if self.residual else block(inner)
        out: Tensor = self.join(torch.cat([inner, self.past(x)], dim=1))
        return out


class Pooling(nn.Module):
    """The largest values of windows of several sizes beside the map itself (He et al. 2014).

    Args:
        width: Channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow = Unit(width, width // 2)
        self.pools = nn.ModuleList([nn.MaxPool2d(size, stride=1, padding=size // 2) for size in _POOLS])
        self.join = Unit(width // 2 * (1 + len(_POOLS)), width)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, c, h, w]` to the same shape."""
        x = self.narrow(x)
        out: Tensor = self.join(torch.cat([x, *(pool(x) for pool in self.pools)], dim=1))
        return out


class Backbone(nn.Module):
    """A stem and four stages, each half as large as the one before.

    Args:
        channels: Those of the picture.
        widths: Channels of the stem and of each stage.
        blocks: Blocks of each stage.
    """

    def __init__(self, channels: int, widths: list[int], blocks: list[int]) -> None:
        super().__init__()
        self.stem = Unit(channels, widths[0], 3, stride=2)
        self.stages = nn.ModuleList(
            [
                nn.Sequential(Unit(before, after, 3, stride=2), PartialStage(after, after, count))
                for before, after, count in zip(widths, widths[1:], blocks, strict=False)
            ]
        )
        self.pooling = Pooling(widths[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps at strides 8, 16 and 32 of a picture `[b, c, h, w]`."""
        maps, x = [], self.stem(x)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [maps[1], maps[2], self.pooling(maps[3])]


class Neck(nn.Module):
    """Mixes maps of three scales: down from the coarsest, and up again from the finest.

    Args:
        widths: Their channels, the finest first; kept.
        blocks: Blocks of each mixture.
    """

    def __init__(self, widths: list[int], blocks: int) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.narrow = nn.ModuleList([Unit(coarse, middle), Unit(middle, fine)])
        self.down = nn.ModuleList(
            [PartialStage(2 * middle, middle, blocks, residual=False), PartialStage(2 * fine, fine, blocks, residual=False)]
        )
        self.halve = nn.ModuleList([Unit(fine, fine, 3, stride=2), Unit(middle, middle, 3, stride=2)])
        self.up = nn.ModuleList(
            [PartialStage(2 * fine, middle, blocks, residual=False), PartialStage(2 * middle, coarse, blocks, residual=False)]
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return maps of the shapes given."""
        fine, middle, coarse = maps
        from_coarse = self.narrow[0](coarse)
        middle = self.down[0](torch.cat([_enlarged(from_coarse, middle), middle], dim=1))
        from_middle = self.narrow[1](middle)
        fine = self.down[1](torch.cat([_enlarged(from_middle, fine), fine], dim=1))
        middle = self.up[0](torch.cat([self.halve[0](fine), from_middle], dim=1))
        coarse = self.up[1](torch.cat([self.halve[1](middle), from_coarse], dim=1))
        return [fine, middle, coarse]


class Towers(nn.Module):
    """Two convolutions apart, one for what is there and one for where it is, behind a shared narrow one.

    Args:
        before: Channels in.
        width: Channels of each tower.
    """

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.narrow = Unit(before, width)
        self.scores, self.boxes = Unit(width, width, 3), Unit(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, before, h, w]` to `[b, 2·width, h, w]`."""
        x = self.narrow(x)
        return torch.cat([self.scores(x), self.boxes(x)], dim=1)


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[2:], mode="nearest")


def _places(x: Tensor, stride: int) -> Tensor:
    """Return `(x, y, stride)` of the places of a map `[b, c, h, w]` in pixels of the picture, `[h·w, 3]`."""
    height, width = x.shape[2:]
    y, x_place = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x_place.flatten() * stride, y.flatten() * stride, torch.full((height * width,), float(stride))], dim=1)


def _initialize(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
