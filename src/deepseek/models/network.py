"""A whole network: graph transforms, encoders, fusion, trunk, each replaceable by name.

Legend of shapes: `b` rows · `m` members · `w` width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deepseek.data.padding import mask_name
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError, UnknownNameError
from deepseek.fields import Kind
from deepseek.models.base import Encoded, Encoder, Fusion, Trunk
from deepseek.models.encoders.table import TABLE_KINDS
from deepseek.registry import component, family

if TYPE_CHECKING:
    EncoderSpec = dict[str, Any] | str
    FusionSpec = dict[str, Any] | str
    TrunkSpec = dict[str, Any] | str
else:
    EncoderSpec = component("encoder")
    FusionSpec = component("fusion")
    TrunkSpec = component("trunk")

TABLE = "table"
DEFAULT_ENCODERS: Mapping[str, str] = {TABLE: "table", Kind.IMAGE.value: "cnn", Kind.TEXT.value: "text_cnn"}
"""What encodes the inputs of a group (the table, or a kind) unless the recipe says otherwise."""


class Beside(nn.Module, ABC):
    """What adds to the decision layer's outputs straight from the inputs.

    Attributes:
        reads: The names of the inputs that it wants.
    """

    reads: Collection[str]

    @abstractmethod
    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return `[b, o]`; the inputs have passed their graph transforms."""


class Network(nn.Module):
    """Turns a batch's inputs into features: graph transforms → encoders → fusion → trunk.

    Numbers, categories, binaries and timestamps are one group, `table`, and share an encoder; every other input has an encoder of its own.

    Args:
        inputs: What the network meets in `Batch.inputs`, by name.
        graph: The part of the transforms that runs inside the network, by input name; inputs without one are taken as they come.
        encoders: What encodes an input: under its name, under its kind (`image`, `text`), or under `table` for all columns of the table.
        fusion: What joins the encoders' tokens.
        trunk: What works on the joined vector.

    Attributes:
        width: `w` of the features.
        members: `m` of the features.
        seen: The inputs as the encoders meet them, behind their graph transforms.

    Raises:
        InputError: There is no input, one of a kind that no encoder takes, or a graph transform of one whose rows are of unequal length.
        UnknownNameError: `encoders` or `graph` names an input or kind that is not there.

    Example:
        >>> age = InputSpec("numbers", Kind.NUMBER, ("age",), (1,), "float32")
        >>> network = Network({"numbers": age}, {}, encoders={"table": {"type": "table", "numbers": "identity"}})
        >>> network({"numbers": torch.zeros(2, 1)}).shape
        torch.Size([2, 1, 256])
    """

    width: int
    members: int

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        graph: Mapping[str, nn.Module],
        /,
        *,
        encoders: dict[str, EncoderSpec] | None = None,
        fusion: FusionSpec = "concat",
        trunk: TrunkSpec = "mlp",
    ) -> None:
        super().__init__()
        for name in graph:
            if name not in inputs:
                raise UnknownNameError("input of a graph transform", name, inputs)
            if inputs[name].ragged:
                raise InputError(
                    f"a graph transform of {name!r}, whose rows are of unequal length", hint="let the transform do its work in apply()"
                )
        self.inputs = dict(inputs)
        self.seen = {name: _after(spec, graph.get(name)) for name, spec in inputs.items()}
        self._graph_keys = {name: module_key(name) for name in graph}
        self._masks = [mask_name(name) for name, spec in inputs.items() if spec.ragged]
        self.graph = nn.ModuleDict({self._graph_keys[name]: module for name, module in graph.items()})
        groups = _groups(self.seen, encoders or {})
        self._encoder_keys = {name: name if name == TABLE else module_key(name) for name in groups}
        built: dict[str, Encoder] = {
            self._encoder_keys[name]: family("encoder").build(spec, {member: self.seen[member] for member in members})
            for name, (members, spec) in groups.items()
        }
        self.encoders = nn.ModuleDict(built)
        self.fusion: Fusion = family("fusion").build(fusion, built)
        self.trunk: Trunk = family("trunk").build(trunk, self.fusion.width)
        self.width, self.members = self.trunk.width, self.trunk.members

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return features `[b, m, w]`.

        Args:
            inputs: The batch's tensors by input name, as stored, with `NAME_mask` beside a ragged one; names that the network does not know
                are left alone.
        """
        ready = self.ready(inputs)
        encoded: dict[str, Encoded] = {key: encoder(ready) for key, encoder in self.encoders.items()}
        out: Tensor = self.trunk(self.fusion(encoded))
        return out

    def ready(self, inputs: Mapping[str, Tensor], *, only: Collection[str] | None = None) -> dict[str, Tensor]:
        """Return what the encoders meet, by name: the inputs as they leave their graph transforms, masks beside the ragged ones.

        Args:
            inputs: The batch's tensors.
            only: The names of the inputs that are wanted; nothing for all.
        """
        ready = {
            name: self.graph[self._graph_keys[name]](inputs[name]) if name in self._graph_keys else inputs[name]
            for name in self.inputs
            if only is None or name in only
        }
        return ready | {mask: inputs[mask] for mask in self._masks if mask in inputs}

    def beside(self, outputs: int) -> Beside | None:
        """Return what adds to the decision layer's outputs straight from the inputs, without the trunk; nothing in most networks.

        Args:
            outputs: How many numbers the decision layer returns for a row.
        """
        return None

    def parts(self) -> dict[str, nn.Module]:
        """Return the parts by name: each encoder under the input or group that it encodes, the fusion, the trunk."""
        encoders = {f"encoder of {name}": self.encoders[key] for name, key in self._encoder_keys.items()}
        return {"graph transforms": self.graph, **encoders, "fusion": self.fusion, "trunk": self.trunk}


def module_key(name: str) -> str:
    """Return the name of the module that belongs to an input: never a reserved one, and without dots, which a module's name must not hold.

    Example:
        >>> module_key("photo.front")
        'input_photo%2Efront'
    """
    return "input_" + name.replace("%", "%25").replace(".", "%2E")


def parameter_count(module: nn.Module, *, trainable: bool = False) -> int:
    """Return how many numbers a module learns; shared ones count once.

    Args:
        module: The module.
        trainable: Whether to leave out frozen parameters.
    """
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad or not trainable)


def without_pretrained(spec: Mapping[str, Any], network: nn.Module | None = None) -> dict[str, Any]:
    """Return a model's spec with every `pretrained` emptied.

    A bundle holds the weights itself, and must not look for files of the training machine.

    Args:
        spec: The model's spec.
        network: The network that was built from it, whose encoders know what is needed in the place of their checkpoints.
    """
    encoders = [part for part in network.modules() if isinstance(part, Encoder)] if network is not None else []
    needed = {encoder.checkpoint: encoder.standing_alone() for encoder in encoders if encoder.checkpoint is not None}

    def emptied(value: Any) -> Any:
        if isinstance(value, Mapping):
            alone = {"pretrained": None, **needed.get(value["pretrained"], {})} if "pretrained" in value else {}
            return {**{key: emptied(part) for key, part in value.items()}, **alone}
        return [emptied(part) for part in value] if isinstance(value, list) else value

    return dict(emptied(spec))


def _groups(inputs: Mapping[str, InputSpec], given: Mapping[str, EncoderSpec]) -> dict[str, tuple[list[str], EncoderSpec]]:
    """Say which inputs share an encoder, and which encoder that is."""
    if not inputs:
        raise InputError("the network has no inputs", hint="at least one column must be left as an input")
    kinds = {TABLE if spec.kind in TABLE_KINDS else spec.kind.value for spec in inputs.values()}
    for name in given:
        if name not in inputs and name not in kinds:
            raise UnknownNameError("input or kind with an encoder", name, [*inputs, *kinds])
    groups: dict[str, tuple[list[str], EncoderSpec]] = {}
    for name, spec in inputs.items():
        kind = TABLE if spec.kind in TABLE_KINDS else spec.kind.value
        if name in given or kind != TABLE:
            groups[name] = ([name], _encoder_of(spec, given.get(name) or given.get(kind) or DEFAULT_ENCODERS.get(kind)))
        else:
            members, _ = groups.setdefault(TABLE, ([], given.get(TABLE) or DEFAULT_ENCODERS[TABLE]))
            members.append(name)
    return groups


def _encoder_of(spec: InputSpec, encoder: EncoderSpec | None) -> EncoderSpec:
    if encoder is None:
        raise InputError(
            f"no encoder takes the input {spec.name!r} of kind {spec.kind.value!r}",
            hint="leave the column out, set its kind, or name an encoder for it under model.encoders",
        )
    return encoder


def _after(spec: InputSpec, module: nn.Module | None) -> InputSpec:
    """Return the description of an input as it leaves its graph transform, by sending one row of zeros through."""
    if module is None:
        return spec
    with torch.no_grad():
        out: Tensor = module(torch.zeros(1, *spec.shape, dtype=getattr(torch, spec.dtype)))
    return replace(spec, shape=tuple(out.shape[1:]), dtype=str(out.dtype).removeprefix("torch."))
