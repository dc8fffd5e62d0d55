"""A network with the task's decision layer on it: what is trained, saved, exported and asked."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from deepseek.models.network import Network
from deepseek.tasks.base import Task


class TaskModel(nn.Module):
    """Network and decision layer, and what of the network goes round the decision layer.

    Legend of shapes: `b` rows, `m` members, `o` outputs.

    Args:
        network: Turns inputs into features `[b, m, width]`.
        task: Gives the decision layer and the decoding.
    """

    def __init__(self, network: Network, task: Task) -> None:
        super().__init__()
        self.network = network
        self.head = task.head(network.width, network.members)
        self.beside = network.beside(task.outputs)
        self.task = task

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the raw outputs `[b, m, o]`, as the task's loss takes them."""
        out: Tensor = self.head(self.network(inputs))
        if self.beside is None:
            return out
        direct: Tensor = self.beside(self.network.ready(inputs, only=self.beside.reads))
        return out + direct.unsqueeze(1)

    def predict(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return decoded answers; the whole of it can be exported."""
        return self.task.decode(self(inputs))
