"""U-Net for images and volumes, with attention gates where they are wanted.

Legend of shapes: `b` rows · `c` channels · `w` width · `*space` height and width, or depth, height and width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le
from torch import Tensor, cat, group_norm, nn
from torch.nn import functional

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.layers import ActivationName, Probability, Width, make_map_activation
from deepseek.models.network import FeatureNetwork

MapNormalization = Literal["instance", "batch", "group", "layer", "none"]
GROUPS = 8
_CONVOLUTION: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d | nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOLING: dict[int, type[nn.MaxPool2d | nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_BATCH: dict[int, type[nn.BatchNorm2d | nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class UNet(nn.Module):
    """A contracting path, an expanding path, and a way across at each size.

    Each size has two 3-wide convolutions, each with a normalisation and an activation behind it. On the way down the largest of 2 in each
    direction is taken; on the way up a transposed convolution doubles the size and halves the channels, and what came down at this size is
    put beside it, weighted by an attention gate where there are any. Pictures whose size 2^depth does not divide are filled up with their
    edges, and what comes out is cut again.

    Args:
        channels: Channels of the picture.
        dimensions: 2 or 3.
        width: `w`: channels at full size; each halving doubles them, up to `most`.
        depth: How often the size is halved.
        most: The most channels at any size.
        normalization: As of the models.
        activation: As of the models.
        dropout: The share of values that are dropped at the smallest size, in [0, 1).
        attention_gates: Whether the ways across are gated.
        supervised: How many of the coarser sizes on the way up also give features while training, 0 to `depth`.

    Shape:
        `[b, c, *space]` to `[b, w, *space]`; while training to `[b, (1 + supervised) · w, *space]`, the finest first.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        channels: int,
        *,
        dimensions: int,
        width: int,
        depth: int,
        most: int,
        normalization: MapNormalization,
        activation: ActivationName,
        dropout: float,
        attention_gates: bool,
        supervised: int = 0,
    ) -> None:
        super().__init__()
        widths = [min(width << level, max(most, width)) for level in range(depth + 1)]
        self.multiple = 1 << depth
        before = [channels, *widths[:-1]]
        self.down = nn.ModuleList(
            double_convolution(one, two, dimensions=dimensions, normalization=normalization, activation=activation)
            for one, two in zip(before, widths, strict=True)
        )
        self.pool = _POOLING[dimensions](2)
        self.dropout: nn.Module = nn.Dropout(dropout)
        pairs = list(zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True))
        self.up = nn.ModuleList(_TRANSPOSED[dimensions](one, two, 2, 2) for one, two in pairs)
        self.gates = nn.ModuleList(
            AttentionGate(two, dimensions=dimensions, normalization=normalization) for _, two in (pairs if attention_gates else [])
        )
        self.merge = nn.ModuleList(
            double_convolution(2 * two, two, dimensions=dimensions, normalization=normalization, activation=activation) for _, two in pairs
        )
        # of the smallest size, of the one after it, and so on; the last of all is the answer itself
        self.supervised = nn.ModuleList(_CONVOLUTION[dimensions](one, width, 1) for one in widths[1 : supervised + 1][::-1])
        _initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[b, w, *space]`, and while training what coarser sizes say behind it."""
        size = x.shape[2:]
        x = _filled(x, self.multiple)
        ways = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            ways.append(x)
        x = self.dropout(ways.pop())
        coarse = [x]
        for level, (up, merge) in enumerate(zip(self.up, self.merge, strict=True)):
            x, across = up(x), ways.pop()
            if len(self.gates):
                across = self.gates[level](across, x)
            x = merge(cat([across, x], dim=1))
            coarse.append(x)
        if self.training and len(self.supervised):
            x = self._with_coarser(coarse)
        inside: tuple[slice, ...] = (slice(None), slice(None), *(slice(0, side) for side in size))
        return x[inside]

    def _with_coarser(self, maps: list[Tensor]) -> Tensor:
        """Return the finest map with those before it, each brought to the width and the size of the finest."""
        finest = maps[-1]
        chosen = zip(self.supervised, maps[-1 - len(self.supervised) : -1], strict=True)
        large = [functional.interpolate(one(x), size=finest.shape[2:], mode="nearest") for one, x in chosen]
        return cat([finest, *reversed(large)], dim=1)


class DeepDecision(nn.Module):
    """The decision layer of a network whose coarser sizes answer as well while it trains (deep supervision).

    Source: Lee et al., "Deeply-Supervised Nets", AISTATS 2015, https://arxiv.org/abs/1409.5185; for volumes Dou et al., 2016,
    https://arxiv.org/abs/1607.00582.

    Args:
        width: `w`.
        outputs: `o`.
        dimensions: 2 or 3.
        supervised: How many coarser sizes there are.

    Shape:
        `[b, w, *space]` to `[b, o, *space]`, and `[b, (1 + supervised) · w, *space]` to `[b, (1 + supervised) · o, *space]`.
    """

    def __init__(self, width: int, outputs: int, *, dimensions: int, supervised: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_CONVOLUTION[dimensions](width, outputs, 1) for _ in range(1 + supervised))

    def forward(self, x: Tensor) -> Tensor:
        """Return the answers, the finest first."""
        parts = x.chunk(len(self.heads), dim=1) if self.training else (x,)
        return cat([head(part) for head, part in zip(self.heads, parts, strict=False)], dim=1)


class AttentionGate(nn.Module):
    """Lets of what comes across pass what the coarser features ask for: `x · sigmoid(ψ(relu(W x + V g)))`, one factor a place.

    `W`, `V` and `ψ` are linear at each place, each with a normalisation behind it but for `ψ`. The coarser features are brought to the size
    of what they gate before, by the network's own transposed convolution, where the paper brings the gate to it. As there, a gate of a new
    network lets everything pass: half closed, it would halve what comes across until it has learned better.

    Source: Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018, https://arxiv.org/abs/1804.03999.

    Args:
        width: Channels of both.
        dimensions: 2 or 3.
        normalization: As of the models.

    Shape:
        Two of `[b, width, *space]` to `[b, width, *space]`.
    """

    def __init__(self, width: int, *, dimensions: int, normalization: MapNormalization) -> None:
        super().__init__()
        inner, kind = max(width // 2, 1), _CONVOLUTION[dimensions]
        self.of_way = nn.Sequential(kind(width, inner, 1), make_map_normalization(normalization, inner, dimensions))
        self.of_gate = nn.Sequential(kind(width, inner, 1), make_map_normalization(normalization, inner, dimensions))
        self.factor = kind(inner, 1, 1)
        self.open()

    def open(self) -> None:
        """Let 95 % pass, at every place nearly alike."""
        assert self.factor.bias is not None
        nn.init.normal_(self.factor.weight, std=0.01)
        nn.init.constant_(self.factor.bias, 3.0)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        """Return what passes of `x`."""
        return x * self.attention(x, g)

    def attention(self, x: Tensor, g: Tensor) -> Tensor:
        """Return the factors, `[b, 1, *space]`, in (0, 1)."""
        factors: Tensor = self.factor(functional.relu(self.of_way(x) + self.of_gate(g))).sigmoid()
        return factors


class _UNetNetwork(FeatureNetwork):
    """What both networks have in common: one picture in, the graph transforms before it."""

    features = "map"
    kind: ClassVar[Kind]

    def __init__(self, inputs: Mapping[str, InputSpec], graph: Mapping[str, nn.Module], /, **arguments: object) -> None:
        super().__init__(inputs, graph)
        name, channels = self._only_picture(type(self).__name__)
        self.input_name = name
        dimensions, supervised = (2 if self.kind is Kind.IMAGE else 3), int(arguments["supervised"])  # type: ignore[call-overload]
        if supervised > int(arguments["depth"]):  # type: ignore[call-overload]
            raise InputError(
                f"deep_supervision is {supervised}, and the network has {arguments['depth']} coarser sizes", hint="at most depth"
            )
        self.body = UNet(channels, dimensions=dimensions, **arguments)  # type: ignore[arg-type]
        self.width = int(arguments["width"])  # type: ignore[call-overload]
        self._deep = {"dimensions": dimensions, "supervised": supervised}

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return `[b, w, *space]`, of the picture's size; more of `w` while training with deep supervision."""
        out: Tensor = self.body(self.ready(inputs)[self.input_name])
        return out

    def decision(self, outputs: int) -> nn.Module | None:
        """Return a decision layer of its own where coarser sizes answer too."""
        return DeepDecision(self.width, outputs, **self._deep) if self._deep["supervised"] else None

    def _only_picture(self, model: str) -> tuple[str, int]:
        others = [f"{name!r} ({spec.kind.value})" for name, spec in self.seen.items() if spec.kind is not self.kind]
        if others or len(self.seen) != 1:
            what = ", ".join(others) or f"{len(self.seen)} inputs of kind {self.kind.value}"
            raise InputError(
                f"the model {model} takes one {self.kind.value} and nothing else, and there is {what}", hint="drop other columns"
            )
        (spec,) = self.seen.values()
        return spec.name, spec.shape[0]


class UNetModel(_UNetNetwork):
    """U-Net for images: a class for each pixel.

    Source: Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
    https://arxiv.org/abs/1505.04597; with convolutions that keep the size, and normalisations, as has become usual.

    Args:
        width: Channels at full size; each halving doubles them.
        depth: How often the size is halved.
        most_width: The most channels at any size.
        normalization: `instance`, `batch`, `group` (of 8 groups), `layer` (one group of all channels) or `none`.
        activation: `relu`, `gelu`, `silu`, or an operator that is pointwise.
        dropout: The share of values that are dropped at the smallest size, in [0, 1).
        attention_gates: Whether gates weigh what comes across (Oktay et al., 2018, https://arxiv.org/abs/1804.03999).
        deep_supervision: How many of the coarser sizes on the way up are also asked for masks while training, at most `depth`; each counts
            half as much as the next finer one (Dou et al., 2016, https://arxiv.org/abs/1607.00582). Answers are the finest's alone.

    Example:
        >>> import torch
        >>> photo = InputSpec("photo", Kind.IMAGE, ("photo",), (3, 30, 45), "float32")
        >>> network = UNetModel({"photo": photo}, {}, width=8, depth=3)
        >>> network({"photo": torch.zeros(2, 3, 30, 45)}).shape
        torch.Size([2, 8, 30, 45])
    """

    kind = Kind.IMAGE

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Mapping[str, InputSpec],
        graph: Mapping[str, nn.Module],
        /,
        *,
        width: Width = 32,
        depth: Annotated[int, Ge(1), Le(8)] = 4,
        most_width: Width = 512,
        normalization: MapNormalization = "batch",
        activation: ActivationName = "relu",
        dropout: Probability = 0.0,
        attention_gates: bool = False,
        deep_supervision: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__(
            inputs,
            graph,
            width=width,
            depth=depth,
            most=most_width,
            normalization=normalization,
            activation=activation,
            dropout=dropout,
            attention_gates=attention_gates,
            supervised=deep_supervision,
        )


class UNet3dModel(_UNetNetwork):
    """U-Net for volumes: a class for each voxel.

    Source: Çiçek et al., "3D U-Net: Learning Dense Volumetric Segmentation from Sparse Annotation", MICCAI 2016,
    https://arxiv.org/abs/1606.06650. Volumes come few to a batch, so that each is normalised by itself unless told otherwise.

    Args:
        width: Channels at full size; each halving doubles them.
        depth: How often the size is halved.
        most_width: The most channels at any size.
        normalization: `instance`, `batch`, `group` (of 8 groups), `layer` (one group of all channels) or `none`.
        activation: `relu`, `gelu`, `silu`, or an operator that is pointwise.
        dropout: The share of values that are dropped at the smallest size, in [0, 1).
        attention_gates: Whether gates weigh what comes across (Oktay et al., 2018, https://arxiv.org/abs/1804.03999).
        deep_supervision: How many of the coarser sizes on the way up are also asked for masks while training, at most `depth`; each counts
            half as much as the next finer one (Dou et al., 2016, https://arxiv.org/abs/1607.00582). Answers are the finest's alone.

    Example:
        >>> import torch
        >>> scan = InputSpec("scan", Kind.VOLUME, ("scan",), (1, 10, 12, 9), "float32")
        >>> network = UNet3dModel({"scan": scan}, {}, width=4, depth=2, attention_gates=True)
        >>> network({"scan": torch.zeros(1, 1, 10, 12, 9)}).shape
        torch.Size([1, 4, 10, 12, 9])
    """

    kind = Kind.VOLUME

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Mapping[str, InputSpec],
        graph: Mapping[str, nn.Module],
        /,
        *,
        width: Width = 16,
        depth: Annotated[int, Ge(1), Le(8)] = 3,
        most_width: Width = 320,
        normalization: MapNormalization = "instance",
        activation: ActivationName = "relu",
        dropout: Probability = 0.0,
        attention_gates: bool = False,
        deep_supervision: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__(
            inputs,
            graph,
            width=width,
            depth=depth,
            most=most_width,
            normalization=normalization,
            activation=activation,
            dropout=dropout,
            attention_gates=attention_gates,
            supervised=deep_supervision,
        )


def double_convolution(
    before: int, after: int, *, dimensions: int, normalization: MapNormalization, activation: ActivationName
) -> nn.Sequential:
    """Return two convolutions that keep the size, each with a normalisation and an activation behind it.

    Args:
        before: Channels in.
        after: Channels out.
        dimensions: 2 or 3.
        normalization: As of the models.
        activation: As of the models.
    """
    layers: list[nn.Module] = []
    for width in (before, after):
        layers += [
            _CONVOLUTION[dimensions](width, after, 3, padding=1, bias=normalization == "none"),
            make_map_normalization(normalization, after, dimensions),
            # in place: backward needs its result alone, and maps at full size are what fills memory
            nn.ReLU(inplace=True) if activation == "relu" else make_map_activation(activation, after),
        ]
    return nn.Sequential(*layers)


def make_map_normalization(name: MapNormalization, width: int, dimensions: int) -> nn.Module:
    """Return a normalisation of maps.

    Args:
        name: `batch`: over rows and places; `instance`: over each channel's own places; `group` and `layer`: over places and 8 groups of
            channels, or all of them; `none`.
        width: Channels.
        dimensions: 2 or 3.
    """
    if name == "none":
        return nn.Identity()
    if name == "batch":
        return _BATCH[dimensions](width)
    groups = {"instance": width, "layer": 1}.get(name, math.gcd(GROUPS, width))
    return MapGroupNorm(groups, width)


class MapGroupNorm(nn.GroupNorm):
    """PyTorch's group normalisation, also of a map of a single place, as small pictures become: its values are then the biases."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map; `functional.group_norm` would refuse one value a group."""
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def _filled(x: Tensor, multiple: int) -> Tensor:
    """Return pictures whose sides are multiples of a number, filled up at their ends with their edges."""
    missing: list[int] = []
    for side in reversed(x.shape[2:]):
        missing += [0, -side % multiple]
    return functional.pad(x, missing, mode="replicate") if any(missing) else x


def _initialize(module: nn.Module) -> None:
    """Give convolutions He's normal weights (https://arxiv.org/abs/1502.01852), and no bias; open the gates."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, AttentionGate):
            part.open()
