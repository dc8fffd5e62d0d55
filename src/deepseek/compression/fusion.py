"""Normalisation folded into the layer before it: two kernels become one, with the same answers.

In evaluation mode batch normalisation is a multiplication and an addition with fixed numbers, which a convolution or a linear map before it
can do itself: `γ (W x + b - μ) / σ + β = (γ/σ W) x + (γ/σ (b - μ) + β)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Folded:
    """A network whose normalisations stand in the weights before them, where they can.

    Attributes:
        module: A copy of the network, in evaluation mode; the original is as it was.
        pairs: What was folded: the names of the layer and of the normalisation that is gone.
    """

    module: nn.Module
    pairs: tuple[tuple[str, str], ...]


def folded(module: nn.Module, run: Callable[[nn.Module], object]) -> Folded:
    """Return a copy in which each batch normalisation behind a convolution or a linear map is part of that layer.

    Which layer a normalisation follows is seen in a run, not guessed from names: a pair is folded only where the layer's output goes into
    the normalisation and nowhere else, and where both are used once. Answers differ by rounding alone.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, §3.2,
    https://arxiv.org/abs/1712.05877.

    Args:
        module: The network.
        run: Sends a batch through the network that it is given.
    """
    copy = deepcopy(module).eval()
    with torch.no_grad(), _Calls() as seen:
        run(copy)
    names = {id(part): name for name, part in copy.named_modules()}
    pairs = []
    for layer, normalization in _pairs(copy, seen):
        _fold(layer, normalization)
        name = names[id(normalization)]
        parent, _, last = name.rpartition(".")
        setattr(copy.get_submodule(parent), last, nn.Identity())
        pairs.append((names[id(layer)], name))
    return Folded(copy, tuple(pairs))


def kernels(run: Callable[[], object]) -> Counter[str]:
    """Return how often each operator of PyTorch is computed in a run, by name; views and fresh memory compute nothing, and are left out."""
    counts: Counter[str] = Counter()
    with torch.no_grad(), _Kernels(counts):
        run()
    return counts


@dataclass
class _Call:
    function: Callable[..., Any]
    inputs: list[int]
    output: int


@dataclass(eq=False)
class _Calls(TorchFunctionMode):
    """Notes each call of a function of PyTorch by what goes in and comes out, as identities of tensors."""

    calls: list[_Call] = field(default_factory=list)
    held: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        out = func(*args, **given)
        if _tensors((out,)):  # whoever asks for a shape alone takes nothing of the values
            self.held += [args, given, out]  # an identity is one only while its object lives
            self.calls.append(_Call(func, [id(tensor) for tensor in _tensors((args, given))], id(out)))
        return out


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        name = func.overloadpacket.__name__
        if not func.is_view and not name.startswith("empty"):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def _pairs(module: nn.Module, seen: _Calls) -> list[tuple[Any, Any]]:
    """Return each layer with the normalisation that alone takes what it gives."""
    layers = {id(part.weight): part for part in module.modules() if isinstance(part, _LAYERS)}
    normalizations = {
        id(part.running_mean): part for part in module.modules() if isinstance(part, _NORMALIZATIONS) and part.running_mean is not None
    }
    uses = Counter(tensor for call in seen.calls for tensor in set(call.inputs))
    owners = Counter(id(parameter) for part in module.modules() for parameter in part.parameters(recurse=False))
    made = {
        call.output: layers[weight]
        for call in seen.calls
        if call.function in _FORWARD
        for weight in call.inputs
        if weight in layers and uses[weight] == 1 and owners[weight] == 1
    }
    found = []
    for call in seen.calls:
        if call.function is not functional.batch_norm:
            continue
        normalization = next((normalizations[tensor] for tensor in call.inputs if tensor in normalizations), None)
        layer = made.get(call.inputs[0])
        if layer is None or normalization is None or uses[call.inputs[0]] != 1 or uses[id(normalization.running_mean)] != 1:
            continue
        if isinstance(layer, nn.Linear) and not isinstance(normalization, nn.BatchNorm1d):
            continue
        if _channels(layer) == normalization.num_features and not (isinstance(layer, nn.Linear) and _deep(seen, call)):
            found.append((layer, normalization))
    return found


_FORWARD = (torch.conv1d, torch.conv2d, torch.conv3d, functional.linear)


def _deep(seen: _Calls, call: _Call) -> bool:
    """Whether the tensor that is normalised has more than two dimensions: then its second is not what a linear map gives."""
    tensor = next(one for one in _tensors(seen.held) if id(one) == call.inputs[0])
    return tensor.ndim != 2


def _channels(layer: Any) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)


@torch.no_grad()
def _fold(layer: Any, normalization: Any) -> None:
    """Move a normalisation's numbers into the layer before it; in float64, so that rounding is what the weights have anyway."""
    variance, mean = normalization.running_var.double(), normalization.running_mean.double()
    scale = torch.rsqrt(variance + normalization.eps)
    if normalization.weight is not None:
        scale = scale * normalization.weight.double()
    shift = -mean * scale
    if normalization.bias is not None:
        shift = shift + normalization.bias.double()
    if layer.bias is not None:
        shift = shift + layer.bias.double() * scale
    weight = layer.weight.double() * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    layer.weight.copy_(weight)
    layer.bias = nn.Parameter(shift.to(layer.weight.dtype))


def _tensors(value: object) -> list[Tensor]:
    """Return the tensors in nested lists, tuples and mappings, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, list | tuple) else []
