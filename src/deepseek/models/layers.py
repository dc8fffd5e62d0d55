"""Layers that several networks are made of: activations, normalisations, dropouts and linear maps with members.

Legend of shapes: `b` rows · `m` members · `i` width in · `o` width out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn import functional

from deepseek.errors import InputError
from deepseek.models.operators.base import Operator
from deepseek.registry import component, family

if TYPE_CHECKING:
    ActivationName = str | dict[str, Any]
    TextActivation = str | dict[str, Any]
else:
    ActivationName = component("operator", "relu", "gelu", "silu")
    TextActivation = component("operator", "relu", "gelu", "silu", "swiglu")
NormalizationName = Literal["none", "batch", "layer", "group"]
"""Over the batch, over each row's values, over each row's values in groups of 8, or none."""
ConvolutionNormalization = Literal["batch", "layer", "group", "none"]
"""The same for maps: all but `batch` are of each row alone, whatever the batch is."""
Width = Annotated[int, Ge(1)]
Depth = Annotated[int, Ge(1)]
ResidualEvery = Annotated[int, Ge(0)]
Probability = Annotated[float, Ge(0.0), Lt(1.0)]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def make_activation(name: ActivationName, width: int) -> nn.Module:
    """Return a fresh activation of `[…, width]`: one of PyTorch's, or an operator, behind which the width may be another."""
    if isinstance(name, str) and name in _ACTIVATIONS:
        return _ACTIVATIONS[name]()
    operator: Operator = family("operator").build(name, width)
    return operator


def make_map_activation(name: ActivationName, width: int) -> nn.Module:
    """Return a fresh activation of maps `[b, width, …]`.

    Raises:
        InputError: It is an operator that does not map each value by itself.
    """
    activation = make_activation(name, width)
    if isinstance(activation, Operator) and not activation.pointwise:
        raise InputError(
            f"the operator {name!r} works on the last dimension, and the channels of a convolution are not the last",
            hint="take an activation, or an operator that is pointwise",
        )
    return activation


def width_behind(activation: nn.Module, width: int) -> int:
    """Return how wide `[…, width]` is behind an activation: operators may halve it, or make more of it."""
    return activation.width if isinstance(activation, Operator) else width


def make_normalization(name: NormalizationName, width: int) -> nn.Module:
    """Return a fresh normalisation of vectors `[b, width]`; the identity for `none`."""
    if name == "batch":
        return nn.BatchNorm1d(width)
    if name == "group":
        return nn.GroupNorm(_groups(width), width)
    return nn.LayerNorm(width) if name == "layer" else nn.Identity()


class Reshaped(nn.Module):
    """Changes the shape of what comes, or how its dimensions lie: a step between the blocks of a trunk.

    Args:
        how: What is done: `one_member` makes `[b, w]` into `[b, 1, w]`, `members_first` swaps the first two dimensions.
    """

    def __init__(self, how: Literal["one_member", "members_first"]) -> None:
        super().__init__()
        self._how = how

    def forward(self, x: Tensor) -> Tensor:
        """Return the same numbers in another shape."""
        return x.unsqueeze(1) if self._how == "one_member" else x.transpose(0, 1)


class WayRound(nn.Module):
    """Adds what comes into some blocks to what goes out of them.

    Args:
        blocks: The blocks, one after the other.
        bypass: What the way round does to what comes; the identity where not given.
    """

    def __init__(self, blocks: Sequence[nn.Module], bypass: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.bypass = nn.Identity() if bypass is None else bypass

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, …]` to the blocks' shape."""
        out, way_round = x, self.bypass(x)
        for block in self.blocks:
            out = block(out)
        total: Tensor = out + way_round
        return total


def make_convolution_normalization(name: ConvolutionNormalization, width: int) -> nn.Module:
    """Return a fresh normalisation of maps `[b, width, h, w]`; the identity for `none`.

    `layer` is one group of all channels: over all that a row has, as layer normalisation of convolutions is usually meant.
    """
    if name == "batch":
        return nn.BatchNorm2d(width)
    if name == "none":
        return nn.Identity()
    return nn.GroupNorm(1 if name == "layer" else _groups(width), width)


def _groups(width: int) -> int:
    return width // 8 if width % 8 == 0 else 1


def checked_residual(every: int, depth: int, *, widening: tuple[int, int] | None = None) -> int:
    """Return every how many layers there is a way round.

    Args:
        every: As it was given; 0 for none.
        depth: How many layers there are.
        widening: From which width to which the first layer leads, where nothing is added if they differ.

    Raises:
        InputError: No way round would be made.
    """
    if every > depth:
        raise InputError(f"residual_every is {every} with a depth of {depth}", hint="it must be at most the depth, or 0")
    if every and widening is not None and widening[0] != widening[1] and 2 * every > depth:
        raise InputError(
            f"residual_every is {every} with a depth of {depth}, and the first {every} layers, which lead from {widening[0]} values to"
            f" {widening[1]}, have no way round: there would be none at all",
            hint=f"a depth of at least {2 * every}, a smaller residual_every, or 0",
        )
    return every


def stacked(layers: Sequence[Callable[[Tensor], Tensor]], x: Tensor, *, every: int, between: nn.Module) -> Tensor:
    """Return what layers, one behind the other, make of `[…, width]`, with ways round.

    Args:
        layers: The layers.
        x: What goes in.
        every: Every so many layers, what came in is added to what comes out (He et al., 2015, https://arxiv.org/abs/1512.03385); 0 for
            never. Where the width has changed nothing is added.
        between: What stands behind every layer but the last, such as dropout.
    """
    way_round = x
    for number, layer in enumerate(layers, start=1):
        x = layer(x)
        if every and number % every == 0:
            x = way_round = x + way_round if x.shape[-1] == way_round.shape[-1] else x
        if number < len(layers):
            x = between(x)
    return x


def init_uniform(tensor: Tensor, fan_in: int) -> None:
    """Fill with `U(-1/√fan_in, 1/√fan_in)`, PyTorch's default for linear layers, written out so that it stays what it is."""
    bound = 1.0 / math.sqrt(fan_in)
    nn.init.uniform_(tensor, -bound, bound)


class MemberLinear(nn.Module):
    """One linear map for each member: the members share nothing.

    One batched product for all members; a loop over `m` layers would launch `m` kernels.

    Args:
        members: How many, at least 1.
        width_in: `i`.
        width_out: `o`.
    """

    no_decay = frozenset({"bias"})

    def __init__(self, members: int, width_in: int, width_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, width_in, width_out))
        self.bias = nn.Parameter(torch.empty(members, width_out))
        init_uniform(self.weight, width_in)
        init_uniform(self.bias, width_in)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, m, i]` to `[b, m, o]`."""
        return torch.einsum("bmi,mio->bmo", x, self.weight) + self.bias


class BatchEnsembleLinear(nn.Module):
    """A linear map that members share, each with scales of its own on the way in and out.

    Member `k` computes `s_k · W (r_k · x) + b_k`: the cost of one product over `b·m` rows, and `m·(i + 2·o)` numbers more than one layer.

    Source: Wen, Tran and Ba, "BatchEnsemble", ICLR 2020, https://arxiv.org/abs/2002.06715; initialised as in TabM, Gorishniy, Kotelnikov
    and Babenko, ICLR 2025, https://arxiv.org/abs/2410.24210: scales are ones except where said, and the members begin with the same bias.

    Args:
        members: How many.
        width_in: `i`.
        width_out: `o`.
        scale_in: How `r` begins: `ones`, random `signs`, or `normal` with mean 0 and deviation 1.
    """

    no_decay = frozenset({"scale_in", "scale_out", "bias"})

    def __init__(self, members: int, width_in: int, width_out: int, *, scale_in: Literal["ones", "signs", "normal"] = "ones") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width_out, width_in))
        self.scale_in = nn.Parameter(member_scales(members, width_in, scale_in))
        self.scale_out = nn.Parameter(torch.ones(members, width_out))
        self.bias = nn.Parameter(torch.empty(members, width_out))
        init_uniform(self.weight, width_in)
        with torch.no_grad():
            init_uniform(self.bias[0], width_in)
            self.bias.copy_(self.bias[:1].expand_as(self.bias).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Map `[m, b, i]` (or `[1, b, i]`, the same for every member) to `[m, b, o]`; members first, as that is faster by a fifth."""
        x = as_autocast(x)
        scale_in, scale_out, bias = (values.to(x.dtype).unsqueeze(1) for values in (self.scale_in, self.scale_out, self.bias))
        return torch.addcmul(bias, functional.linear(x * scale_in, self.weight), scale_out)


def as_autocast(x: Tensor) -> Tensor:
    """Return a tensor in autocast's number format where that is on.

    Autocast casts for matrix products alone and leaves what lies between in float32; where that is most of the work, this halves it.
    """
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a block in which autocast is off; nothing at all where it was not on, so that an exported graph does not know of it."""
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext()


def member_scales(members: int, width: int, start: Literal["ones", "signs", "normal"]) -> Tensor:
    """Return scales `[members, width]`: ones, random signs, or standard normal numbers."""
    if start == "signs":
        return torch.randint(0, 2, (members, width)).to(torch.get_default_dtype()) * 2 - 1
    return torch.ones(members, width) if start == "ones" else torch.randn(members, width)


class SharedDropout(nn.Module):
    """Dropout with one mask for all members of a row.

    Drawing random numbers is a large part of dropout's cost; one mask instead of `m` makes that part `m` times cheaper.

    Args:
        p: The share of the values that are set to zero.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of `[m, b, w]` while training."""
        if not self.training or self.p == 0.0:
            return x
        return x * functional.dropout(torch.ones_like(x[:1]), self.p)


class QuickDropout(nn.Module):
    """Dropout that on a processor draws 16 random bits a value instead of a number each: a third to a half of the time.

    The share is kept to within 1/65,536. Elsewhere, and where a compiler fuses the drawing, it is PyTorch's.

    Args:
        p: The share of the values that are set to zero; the others are divided by `1 - p`.
    """

    elementwise = draws = True

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of a tensor of any shape while training."""
        if not self.training or self.p == 0.0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return functional.dropout(x, self.p)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.int16)[: x.numel()].view(x.shape) >= round(self.p * 2**16) - 2**15
        return x * keep.to(x.dtype).mul_(1.0 / (1.0 - self.p))


class StochasticDepth(nn.Module):
    """Leaves a residual branch out for some rows while training.

    Source: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016, https://arxiv.org/abs/1603.09382.

    Args:
        p: The share of the rows whose branch is set to zero; the others are scaled by `1/(1-p)`.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Zero whole rows of a branch `[b, …]` while training."""
        if not self.training or self.p == 0.0:
            return x
        keep = functional.dropout(torch.ones_like(x[:, :1, :1, :1]), self.p)
        return x * keep


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Share out a width among heads of attention: `[b, l, w]` to `[b, h, l, w / h]`."""
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(1, 2)
