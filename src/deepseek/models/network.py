"""A whole network: graph transforms, encoders, fusion, trunk, each replaceable by name.

Legend of shapes: `b` rows · `m` members · `w` width · `l` elements of a row · `*space` height and width, or depth, height and width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from deepseek.data.padding import mask_name
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError, UnknownNameError
from deepseek.fields import Kind
from deepseek.models.base import Encoded, Encoder, Features, Fusion, Trunk
from deepseek.models.encoders.table import TABLE_KINDS
from deepseek.models.fusion.parts import mask_of
from deepseek.models.layers import Probability
from deepseek.models.trunks.identity import IdentityTrunk
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
DEFAULT_ENCODERS: Mapping[str, str] = {
    TABLE: "table",
    Kind.IMAGE.value: "cnn",
    Kind.TEXT.value: "text_cnn",
    Kind.AUDIO.value: "audio_cnn",
    Kind.SERIES.value: "series_cnn",
}
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


class FeatureNetwork(nn.Module, ABC):
    """A network without its decision layer: what turns a batch's inputs into features, after the graph transforms.

    Every model is one. Which features a network has, and which a task takes, is said by the attributes `features` and `Task.takes`:

    - `vector`: `[b, m, w]`, one vector a row and member;
    - `map`: `[b, w, *space]`, one vector for each place of a picture or volume, as large as the input;
    - `sequence`: `[b, l, w]`, one vector for each element of a ragged input;
    - `places`: `[b, p, w]`, one vector for each place of several grids over a picture, the last three numbers being where it is:
      `(x, y, stride)` in pixels of the picture.

    Args:
        inputs: What the network meets in `Batch.inputs`, by name.
        graph: The part of the transforms that runs inside the network, by input name; inputs without one are taken as they come. That of a
            ragged input takes its mask too, and returns both.

    Attributes:
        features: What `forward` returns.
        width: `w` of the features.
        members: `m` of the features; 1 for maps and sequences.
        inputs: As given.
        seen: The inputs as they leave their graph transforms.

    Raises:
        UnknownNameError: `graph` names an input that is not there.
    """

    features: ClassVar[Features] = "vector"
    width: int
    members: int = 1

    def __init__(self, inputs: Mapping[str, InputSpec], graph: Mapping[str, nn.Module], /) -> None:
        super().__init__()
        for name in graph:
            if name not in inputs:
                raise UnknownNameError("input of a graph transform", name, inputs)
        self.inputs = dict(inputs)
        self.seen = {name: _after(spec, graph.get(name)) for name, spec in inputs.items()}
        self._graph_keys = {name: module_key(name) for name in graph}
        self._masks = [mask_name(name) for name, spec in inputs.items() if spec.ragged]
        self.graph = nn.ModuleDict({self._graph_keys[name]: module for name, module in graph.items()})

    @abstractmethod
    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the features.

        Args:
            inputs: The batch's tensors by input name, as stored, with `NAME_mask` beside a ragged one; names that the network does not know
                are left alone.
        """

    def decision(self, outputs: int) -> nn.Module | None:
        """Return the network's own decision layer, `[b, m, w]` to `[b, m, outputs]`, or nothing where the task's is meant.

        A network that forecasts knows what its features are at which step, and the task does not.

        Args:
            outputs: How many numbers the task wants for a row and member.
        """
        return None

    def beside(self, outputs: int) -> Beside | None:
        """Return what adds to the decision layer's outputs straight from the inputs, without the trunk; nothing in most networks.

        Args:
            outputs: How many numbers the decision layer returns for a row.
        """
        return None

    def ready(self, inputs: Mapping[str, Tensor], *, only: Collection[str] | None = None) -> dict[str, Tensor]:
        """Return what the layers meet, by name: the inputs as they leave their graph transforms, masks beside the ragged ones.

        Args:
            inputs: The batch's tensors.
            only: The names of the inputs that are wanted; nothing for all.
        """
        wanted = [name for name in self.inputs if only is None or name in only]
        ready = {name: inputs[name] for name in wanted} | {mask: inputs[mask] for mask in self._masks if mask in inputs}
        for name in wanted:
            if name not in self._graph_keys:
                continue
            transform = self.graph[self._graph_keys[name]]
            if self.inputs[name].ragged:
                ready[name], ready[mask_name(name)] = transform(inputs[name], _mask(inputs, name))
            else:
                ready[name] = transform(inputs[name])
        return ready

    def parts(self) -> dict[str, nn.Module]:
        """Return the parts by name, for people."""
        return {"graph transforms": self.graph, **{name: part for name, part in self.named_children() if part is not self.graph}}


class Network(FeatureNetwork):
    """Turns a batch's inputs into features: graph transforms → encoders → fusion → trunk.

    Numbers, categories, binaries and timestamps are one group, `table`, and share an encoder; every other input has an encoder of its own.
    Where there are several, a row may lack some of what they encode (an image, a sound, a text): its tokens there are under the mask, and
    the fusion does without them.

    Args:
        inputs: What the network meets in `Batch.inputs`, by name.
        graph: The part of the transforms that runs inside the network, by input name; inputs without one are taken as they come.
        encoders: What encodes an input: under its name, under its kind (`image`, `text`, `audio`), or under `table` for all columns of the
            table.
        fusion: What joins the encoders' tokens.
        sense_dropout: The share of rows from which a sense (an encoder's input, or the table) is taken while training, each sense by itself
            and never all that a row has: so the network learns to do without (Neverova et al., "ModDrop", 2016,
            https://arxiv.org/abs/1501.00102).
        trunk: What works on the joined vector.

    Attributes:
        width: `w` of the features.
        members: `m` of the features.

    Raises:
        InputError: There is no input, or one of a kind that no encoder takes; or a trunk stands behind a fusion that bears none.
        UnknownNameError: `encoders` or `graph` names an input or kind that is not there.

    Example:
        >>> age = InputSpec("numbers", Kind.NUMBER, ("age",), (1,), "float32")
        >>> network = Network({"numbers": age}, {}, encoders={"table": {"type": "table", "numbers": "identity"}})
        >>> network({"numbers": torch.zeros(2, 1)}).shape
        torch.Size([2, 1, 256])
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        graph: Mapping[str, nn.Module],
        /,
        *,
        encoders: dict[str, EncoderSpec] | None = None,
        fusion: FusionSpec = "concat",
        sense_dropout: Probability = 0.0,
        trunk: TrunkSpec = "mlp",
    ) -> None:
        super().__init__(inputs, graph)
        groups = _groups(self.seen, encoders or {})
        self._encoder_keys = {name: name if name == TABLE else module_key(name) for name in groups}
        built: dict[str, Encoder] = {
            self._encoder_keys[name]: family("encoder").build(spec, {member: self.seen[member] for member in members})
            for name, (members, spec) in groups.items()
        }
        self.encoders = nn.ModuleDict(built)
        self.fusion: Fusion = family("fusion").build(fusion, built)
        self.trunk: Trunk = family("trunk").build(trunk, self.fusion.width)
        if self.fusion.linear_behind and not isinstance(self.trunk, IdentityTrunk):
            raise InputError(
                f"behind the fusion {type(self.fusion).__name__} stands the trunk {type(self.trunk).__name__}", hint="take trunk: identity"
            )
        self.sense_dropout = sense_dropout
        self.width, self.members = self.trunk.width, self.trunk.members

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return features `[b, m, w]`.

        Args:
            inputs: The batch's tensors by input name, as stored, with `NAME_mask` beside a ragged one; names that the network does not know
                are left alone.
        """
        out: Tensor = self.trunk(self.fusion(self.encoded(inputs)))
        return out

    def encoded(self, inputs: Mapping[str, Tensor]) -> dict[str, Encoded]:
        """Return what the fusion meets: each encoder's tokens by its key, those of what a row lacks under the mask."""
        ready = self.ready(inputs)
        encoded: dict[str, Encoded] = {key: encoder(ready) for key, encoder in self.encoders.items()}
        if len(encoded) < 2:
            return encoded
        there = self.present(inputs, ready)
        if self.training and self.sense_dropout:
            there = self._dropped(there, next(iter(encoded.values())).tokens)
        return {key: _masked(part, there[key]) for key, part in encoded.items()}

    def present(self, inputs: Mapping[str, Tensor], ready: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
        """Return which rows have what each encoder encodes, bool `[b]` by its key; nothing where all do.

        Args:
            inputs: The batch's tensors, as `forward` is given them.
            ready: The same as the encoders meet them.
        """
        found: dict[str, Tensor | None] = {}
        for name, key in self._encoder_keys.items():
            graph = self.graph[self._graph_keys[name]] if name in self._graph_keys else None
            encoder: Encoder = self.encoders[key]  # type: ignore[assignment]
            there, told = encoder.present(ready), getattr(graph, "present", None)
            if told is not None:
                known: Tensor = told(inputs[name], _mask(inputs, name)) if self.inputs[name].ragged else told(inputs[name])
                there = known if there is None else known & there
            found[key] = there
        return found

    def _dropped(self, there: Mapping[str, Tensor | None], like: Tensor) -> dict[str, Tensor | None]:
        """Take senses away from some rows, and from none its last."""
        whole = torch.ones(like.shape[0], dtype=torch.bool, device=like.device)
        had = torch.stack([whole if one is None else one for one in there.values()], dim=1)
        kept = had & (torch.rand(had.shape, device=had.device) >= self.sense_dropout)
        kept = torch.where(kept.any(dim=1, keepdim=True), kept, had)
        return dict(zip(there, kept.unbind(1), strict=True))

    @property
    def senses(self) -> dict[str, str]:
        """By the key under which the fusion knows it, the input (or the group `table`) that an encoder encodes."""
        return {key: name for name, key in self._encoder_keys.items()}

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
    """Return a model's spec with every `pretrained` and `begins_with` emptied.

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
            begun = {"begins_with": None} if "begins_with" in value else {}
            return {**{key: emptied(part) for key, part in value.items()}, **alone, **begun}
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


def _masked(part: Encoded, there: Tensor | None) -> Encoded:
    return part if there is None else Encoded(part.tokens, mask_of(part) & there.unsqueeze(1))


def _after(spec: InputSpec, module: nn.Module | None) -> InputSpec:
    """Return the description of an input as it leaves its graph transform, by sending one row of zeros through."""
    if module is None:
        return spec
    dtype = getattr(torch, spec.dtype)
    with torch.no_grad():
        if spec.ragged:
            out: Tensor = module(torch.zeros(1, 1, *spec.shape, dtype=dtype), torch.ones(1, 1, dtype=torch.bool))[0]
            return replace(spec, shape=tuple(out.shape[2:]), dtype=str(out.dtype).removeprefix("torch."))
        out = module(torch.zeros(1, *spec.shape, dtype=dtype))
    return replace(spec, shape=tuple(out.shape[1:]), dtype=str(out.dtype).removeprefix("torch."))


def _mask(inputs: Mapping[str, Tensor], name: str) -> Tensor:
    """Return the mask `[b, l]` of a ragged input; all of it where none is given."""
    given = inputs.get(mask_name(name))
    return torch.ones(inputs[name].shape[:2], dtype=torch.bool, device=inputs[name].device) if given is None else given
