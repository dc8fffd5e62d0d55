"""A network with the task's decision layer on it: what is trained, saved, exported and asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from deepseek.errors import InputError
from deepseek.models.base import Features
from deepseek.models.network import FeatureNetwork
from deepseek.models.sequence import SequenceNetwork
from deepseek.tasks.base import Task

_WORDS = {
    "vector": "a vector a row",
    "map": "a vector for each place of a picture",
    "sequence": "a vector for each element of a row",
    "places": "a vector for each place of several grids over a picture",
}
_MODELS = {
    "vector": "a model such as tabm, resnet or text_bag",
    "map": "unet or unet3d",
    "sequence": "text_sequence, transformer_xl or text_decoder",
    "places": "detector",
}


class TaskModel(nn.Module):
    """Network and decision layer, and what of the network goes round the decision layer.

    Legend of shapes: `b` rows, `m` members, `o` outputs, `*space` height and width, or depth, height and width.

    Args:
        network: Turns inputs into features: a vector a row `[b, m, width]`, a map `[b, width, *space]` or a sequence `[b, l, width]`.
        task: Gives the decision layer and the decoding.

    Raises:
        InputError: The network has not the features that the task takes.
    """

    def __init__(self, network: FeatureNetwork, task: Task) -> None:
        super().__init__()
        if task.takes not in ("any", network.features):
            raise InputError(
                f"the model {type(network).__name__} returns {_WORDS[network.features]}, and {type(task).__name__} takes "
                f"{_WORDS[task.takes]}",
                hint=f"choose {_MODELS[task.takes]} under model, or another task",
            )
        self.network = network
        features = task.takes == "any"  # then the answer is the network's features, and nothing of it is a decision
        own = None if features else network.decision(task.outputs)
        self.head = task.attach(network, task.head(network.width, network.members) if own is None else own)
        self.beside = None if features else network.beside(task.outputs)
        self.task = task

    def chain(self) -> Sequence[nn.Module] | None:
        """Return modules whose composition is `forward`: where a pipeline may cut the model; nothing where it is no such chain."""
        parts = self.network.chain() if self.beside is None else None
        return None if parts is None else [*parts, self.head]

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the raw outputs `[b, m, o]`, `[b, o, *space]` or `[b, l, o]`, as the task's loss takes them."""
        out: Tensor = self.head(self.network(inputs))
        if self.beside is None:
            return out
        direct: Tensor = self.beside(self.network.ready(inputs, only=self.beside.reads))
        return out + direct.unsqueeze(1)

    def predict(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return decoded answers; the whole of it can be exported.

        Of a sequence also `real`, bool `[b, n]`: which elements a row has; what is said of others is 0, so that a row's answer is the same
        whatever stands beside it. A task that takes any features is given one vector a row: of a sequence their mean, of a map too.
        """
        out = self(inputs)
        real = self.network.elements(inputs) if isinstance(self.network, SequenceNetwork) else None
        if self.task.takes == "any":
            return self.task.decode(_pooled(out, self.network.features, real))
        decoded = self.task.decode(out)
        if real is None:
            return decoded
        return {**{name: tensor * real.unsqueeze(-1) for name, tensor in decoded.items()}, "real": real}


def _pooled(features: Tensor, kind: Features, real: Tensor | None) -> Tensor:
    """Return one vector a row and member, `[b, m, w]`."""
    if kind == "map":
        return features.flatten(2).mean(dim=2).unsqueeze(1)
    if real is None:
        return features
    weight = real.unsqueeze(-1).to(features.dtype)
    return (features * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True).clamp(min=1.0)
