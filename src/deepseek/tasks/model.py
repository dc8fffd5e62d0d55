"""A network with the task's decision layer on it: what is trained, saved, exported and asked."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from deepseek.errors import InputError
from deepseek.models.network import FeatureNetwork
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
    "sequence": "a model of sequences",
    "places": "detector",
}


class TaskModel(nn.Module):
    """Network and decision layer.

    Legend of shapes: `b` rows, `m` members, `o` outputs, `*space` height and width, or depth, height and width.

    Args:
        network: Turns inputs into features: a vector a row `[b, m, width]`, a map `[b, width, *space]` or a sequence `[b, l, width]`.
        task: Gives the decision layer and the decoding.

    Raises:
        InputError: The network has not the features that the task takes.
    """

    def __init__(self, network: FeatureNetwork, task: Task) -> None:
        super().__init__()
        if network.features != task.takes:
            raise InputError(
                f"the model {type(network).__name__} returns {_WORDS[network.features]}, and {type(task).__name__} takes "
                f"{_WORDS[task.takes]}",
                hint=f"choose {_MODELS[task.takes]} under model, or another task",
            )
        self.network = network
        self.head = task.head(network.width, network.members)
        self.task = task

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the raw outputs `[b, m, o]`, `[b, o, *space]` or `[b, l, o]`, as the task's loss takes them."""
        out: Tensor = self.head(self.network(inputs))
        return out

    def predict(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return decoded answers; the whole of it can be exported."""
        return self.task.decode(self(inputs))
