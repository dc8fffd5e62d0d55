"""Low-rank adapters: small matrices beside frozen weights, which learn in their place and are then added to them.

An adapted layer stays the object it was, with its names: it gets two matrices (`lora_down`, `lora_up`; with DoRA also `magnitude`) and a
forward pass that heeds them. Merged, it is the plain layer again, with other weights.

Sources: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, https://arxiv.org/abs/2106.09685; Liu et al., "DoRA:
Weight-Decomposed Low-Rank Adaptation", 2024, https://arxiv.org/abs/2402.09353.

Legend of shapes: `o` outputs (channels out, the width of an embedding) · `i` everything else of a weight · `r` rank.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepseek.artifacts import plain_disk_errors
from deepseek.errors import InputError, UnknownNameError

FORMAT = "deepseek-adapters"
_FITS = "take a model of the architecture that they were made for, without adapters"


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """What adapters are put on.

    Attributes:
        method: `lora`, or `dora`, which learns the length of each output's weights apart from their direction.
        rank: `r`, at least 1.
        alpha: What is added is `alpha / rank` times the product of the two matrices; over 0.
        dropout: The share of an adapter's inputs that are dropped while training, in [0, 1); embeddings drop nothing.
        layers: Patterns of names of the layers, as `fnmatch` reads them, whole or from a dot on: `query`, `encoder.layer.1?.*`. All linear
            layers and convolutions where none is given.
    """

    method: Literal["lora", "dora"] = "lora"
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in {"lora", "dora"}:
            raise UnknownNameError("kind of adapter", self.method, ("lora", "dora"))
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise InputError(
                f"adapters of rank {self.rank}, alpha {self.alpha} and dropout {self.dropout}",
                hint="rank is at least 1, alpha over 0, dropout in [0, 1)",
            )


class AdaptedLayer(nn.Module):
    """What all adapted layers share: the change of their weight.

    Attributes:
        lora_down: `[r, i]`.
        lora_up: `[o, r]`.
        magnitude: `[o]`, the length of each output's weights; nothing with LoRA.
    """

    weight: Tensor
    lora_down: nn.Parameter
    lora_up: nn.Parameter
    magnitude: nn.Parameter | None
    adapter_dropout: nn.Dropout
    adapter_scale: float

    def put_on(self, settings: AdapterSettings) -> None:
        """Add the matrices; the layer's answers stay what they were."""
        outputs, inputs = self._matrix(self.weight).shape
        frozen = self.weight.requires_grad_(False)
        self.lora_down = nn.Parameter(frozen.new_zeros(settings.rank, inputs))
        self.lora_up = nn.Parameter(frozen.new_zeros(outputs, settings.rank))
        if isinstance(self, nn.Embedding):
            nn.init.normal_(self.lora_up)  # what one-hot inputs meet begins with zeros, so that tokens never seen stay as they were
        else:
            nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))
        lengths = self._matrix(frozen).norm(dim=1).detach().clone()
        self.register_parameter("magnitude", nn.Parameter(lengths) if settings.method == "dora" else None)
        self.adapter_dropout = nn.Dropout(settings.dropout)
        self.adapter_scale = settings.alpha / settings.rank

    def take_off(self) -> None:
        """Remove the matrices, whatever they have learned."""
        del self.lora_down, self.lora_up, self.magnitude, self.adapter_dropout, self.adapter_scale
        self.__class__ = _PLAIN[type(self)]  # type: ignore[assignment]

    def change(self) -> Tensor:
        """Return what is added to the weight, of its shape."""
        return self._shaped(self.lora_up @ self.lora_down * self.adapter_scale)

    def stretch(self) -> Tensor | None:
        """Return what each output's weights are multiplied by after the change, `[o]`; nothing with LoRA.

        No gradient flows through their length (Liu et al., section 4.3), which saves memory and costs no accuracy.
        """
        if self.magnitude is None:
            return None
        with torch.no_grad():
            length = self._matrix(self.weight + self.change()).norm(dim=1)
        stretch: Tensor = self.magnitude / length.clamp_min(torch.finfo(length.dtype).tiny)
        return stretch

    @torch.no_grad()
    def merged_weight(self) -> Tensor:
        """Return the weight of the plain layer that answers as this one does."""
        whole, stretch = self.weight + self.change(), self.stretch()
        return whole if stretch is None else self._shaped(self._matrix(whole) * stretch[:, None])

    def _matrix(self, weight: Tensor) -> Tensor:
        """Return a weight as `[o, i]`."""
        return weight.flatten(1)

    def _shaped(self, matrix: Tensor) -> Tensor:
        """Return a matrix `[o, i]` in the shape of the weight."""
        return matrix.view_as(self.weight)


class AdaptedLinear(AdaptedLayer, nn.Linear):
    """A linear layer with an adapter, which is never multiplied out: two thin products instead of a thick one."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `[…, i]` to `[…, o]`."""
        low = functional.linear(functional.linear(self.adapter_dropout(x), self.lora_down), self.lora_up) * self.adapter_scale
        stretch = self.stretch()
        if stretch is None:
            return functional.linear(x, self.weight, self.bias) + low
        out = (functional.linear(x, self.weight) + low) * stretch
        return out if self.bias is None else out + self.bias


class _AdaptedConvolution(AdaptedLayer):
    """A convolution with an adapter, in any number of groups: the weight is seen as one matrix, outputs by everything else."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, channels in, …]` to `[b, channels out, …]`."""
        layer = cast("Any", self)
        weight, change, stretch = self.weight, self.change(), self.stretch()
        if stretch is not None:
            along = stretch.view(-1, *(1 for _ in weight.shape[1:]))
            weight, change = weight * along, change * along
        if not (self.training and self.adapter_dropout.p):
            out: Tensor = layer._conv_forward(x, weight + change, layer.bias)  # noqa: SLF001 - the layer's own
            return out
        kept: Tensor = layer._conv_forward(x, weight, layer.bias)  # noqa: SLF001
        added: Tensor = layer._conv_forward(self.adapter_dropout(x), change, None)  # noqa: SLF001
        return kept + added


class AdaptedConv1d(_AdaptedConvolution, nn.Conv1d):
    """A convolution over series with an adapter."""


class AdaptedConv2d(_AdaptedConvolution, nn.Conv2d):
    """A convolution over images with an adapter."""


class AdaptedConv3d(_AdaptedConvolution, nn.Conv3d):
    """A convolution over volumes with an adapter."""


class AdaptedEmbedding(AdaptedLayer, nn.Embedding):
    """A table of vectors with an adapter; what stands for padding stays as it was."""

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids to vectors `[…, o]`."""
        low = functional.embedding(ids, self.lora_down.T, self.padding_idx) @ self.lora_up.T * self.adapter_scale
        whole = functional.embedding(ids, self.weight, self.padding_idx) + low
        stretch = self.stretch()
        return whole if stretch is None else whole * stretch

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.T

    def _shaped(self, matrix: Tensor) -> Tensor:
        return matrix.T


_ADAPTED: dict[type[nn.Module], type[AdaptedLayer]] = {
    nn.Linear: AdaptedLinear,
    nn.Conv1d: AdaptedConv1d,
    nn.Conv2d: AdaptedConv2d,
    nn.Conv3d: AdaptedConv3d,
    nn.Embedding: AdaptedEmbedding,
}
_PLAIN = {adapted: plain for plain, adapted in _ADAPTED.items()}


def add_adapters(model: nn.Module, settings: AdapterSettings | None = None, *, within: Iterable[nn.Module] | None = None) -> list[str]:
    """Put adapters on layers, in place, and freeze the weights beneath them; every answer stays what it was.

    Only the classes of PyTorch themselves are adapted: a class derived from one may use its weight past its forward pass.

    Args:
        model: The model.
        settings: What is put on, and where.
        within: Parts of the model whose layers come into question; all of it where not given.

    Returns:
        The names of the adapted layers.

    Raises:
        UnknownNameError: A pattern names no layer that can be adapted.
        InputError: There is none at all, a layer is adapted already, or it is an embedding that limits its vectors' length.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> add_adapters(net, AdapterSettings(rank=2, layers=("0",)))
        ['0']
    """
    settings = settings or AdapterSettings()
    inside = None if within is None else {id(module) for part in within for module in part.modules()}
    layers = {
        name: module
        for name, module in model.named_modules()
        if (type(module) in _ADAPTED or isinstance(module, AdaptedLayer)) and (inside is None or id(module) in inside)
    }
    names = _chosen(layers, settings.layers)
    if not names:
        raise InputError("there is no layer to put an adapter on", hint="adapters go on linear layers, convolutions and embeddings")
    for name in names:
        layer = layers[name]
        if isinstance(layer, AdaptedLayer):
            raise InputError(f"the layer {name!r} has an adapter already", hint="merge it first, or take it off")
        if isinstance(layer, nn.Embedding) and layer.max_norm is not None:
            raise InputError(f"the embedding {name!r} limits the length of its vectors", hint="leave it out of the adapters' layers")
        layer.__class__ = _ADAPTED[type(layer)]
        cast("AdaptedLayer", layer).put_on(settings)
    return names


def merge_adapters(model: nn.Module) -> int:
    """Add what adapters have learned to the weights and take them off, in place; return how many there were.

    The answers stay the same to float32's precision.

    Args:
        model: The model.
    """
    layers = [module for _, module in adapted_layers(model)]
    for layer in layers:
        with torch.no_grad():
            layer.weight.copy_(layer.merged_weight())
        layer.take_off()
    return len(layers)


def adapted_layers(model: nn.Module) -> Iterator[tuple[str, AdaptedLayer]]:
    """Yield the adapted layers of a model by name."""
    yield from [(name, module) for name, module in model.named_modules() if isinstance(module, AdaptedLayer)]


def adapter_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of all adapters of a model."""
    own = ("lora_down", "lora_up", "magnitude")
    return [getattr(layer, name) for _, layer in adapted_layers(model) for name in own if getattr(layer, name) is not None]


def save_adapters(model: nn.Module, path: str | PathLike[str], settings: AdapterSettings) -> Path:
    """Write adapters, and whatever else of the model is not frozen (the decision layer, say), into one safetensors file.

    Args:
        model: The model, with its adapters on.
        path: The file.
        settings: What was put on.

    Raises:
        InputError: The model has no adapters.
        RunError: The file cannot be written.
    """
    from safetensors.torch import save_file

    names = [name for name, _ in adapted_layers(model)]
    if not names:
        raise InputError("the model has no adapters to save", hint="save them before they are merged")
    frozen = set(_frozen(model))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items() if name not in frozen}
    metadata = {"format": FORMAT, "settings": json.dumps({**asdict(settings), "layers": names})}
    with plain_disk_errors(Path(path)):
        save_file(tensors, path, metadata=metadata)
    return Path(path)


def load_adapters(model: nn.Module, path: str | PathLike[str]) -> AdapterSettings:
    """Put adapters that were saved on a model again, with whatever was saved beside them.

    Args:
        model: A model of the same architecture, with the weights that were frozen then, and without adapters.
        path: The file that `save_adapters` wrote.

    Returns:
        What was put on.

    Raises:
        InputError: The file holds no adapters, or they do not fit the model.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise InputError(f"there are no adapters at {str(path)!r}", hint="give the file that was saved")
    try:
        with safe_open(path, "pt") as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if metadata.get("format") != FORMAT:
            raise InputError(f"{path} holds no adapters", hint="give a file that save_adapters wrote")
        kept = json.loads(metadata["settings"])
        settings = AdapterSettings(**{**kept, "layers": tuple(kept["layers"])})
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the adapters in {path} cannot be read: {error}") from error
    _put_on_exactly(model, settings, path)
    own = model.state_dict()
    needed = {f"{layer}.{name}" for layer in settings.layers for name in ("lora_down", "lora_up")}
    wrong = [f"{name} is missing" for name in sorted(needed - set(tensors))]
    wrong += [f"{name} is not wanted" for name in sorted(set(tensors) - set(own))]
    wrong += [
        f"{name} is {tuple(tensor.shape)}, not {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    ]
    if wrong:
        raise InputError(f"the adapters in {path} do not fit the model: {'; '.join(wrong)}", hint=_FITS)
    model.load_state_dict(tensors, strict=False)
    return settings


def _put_on_exactly(model: nn.Module, settings: AdapterSettings, path: str | PathLike[str]) -> None:
    """Put adapters on the layers of these very names: as patterns they might name others."""
    layers = dict(model.named_modules())
    for name in settings.layers:
        layer = layers.get(name)
        if type(layer) not in _ADAPTED:
            raise InputError(f"the adapters in {path} are for a layer {name!r}, which the model does not have", hint=_FITS)
        add_adapters(cast("nn.Module", layer), replace(settings, layers=("",)))


def _chosen(layers: Mapping[str, nn.Module], patterns: Iterable[str]) -> list[str]:
    patterns = tuple(patterns)
    if not patterns:
        return [name for name, layer in layers.items() if not isinstance(layer, nn.Embedding)]
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in layers):
            raise UnknownNameError("layer for adapters", pattern, {name.rpartition(".")[2] for name in layers} | {"*"})
    return [name for name in layers if any(_matches(name, pattern) for pattern in patterns)]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _frozen(model: nn.Module) -> Iterator[str]:
    """Yield the names of frozen parameters, and of the statistics of layers that are frozen whole."""
    for prefix, module in model.named_modules():
        at = f"{prefix}." if prefix else ""
        own = dict(module.named_parameters(recurse=False))
        yield from (f"{at}{name}" for name, parameter in own.items() if not parameter.requires_grad)
        if own and not any(parameter.requires_grad for parameter in own.values()):
            yield from (f"{at}{name}" for name, _ in module.named_buffers(recurse=False))
