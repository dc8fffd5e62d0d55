"""Rows as vectors: a trained or pre-trained network without its decision layer.

Legend of shapes: `b` rows · `m` members · `w` width.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.targets import TargetSpec
from deepseek.errors import InputError
from deepseek.models.network import FeatureNetwork
from deepseek.registry import family
from deepseek.tasks.base import Task
from deepseek.tasks.losses import widened
from deepseek.tasks.metrics import Metric


class EmbeddingTask(Task):
    """Answers with the network's own features, one vector a row; of an ensemble the members' mean, of a sequence its elements'.

    There is nothing to learn, and no metric: a bundle with this task is made of another run, or of a checkpoint, by `deepseek embed`.

    Args:
        normalized: Whether every vector is brought to length 1, so that the product of two is their cosine.
    """

    kind = "features"
    takes: Literal["any"] = "any"  # type: ignore[misc]
    monitor = "loss"
    needs_target = False

    def __init__(self, target: TargetSpec, /, *, normalized: bool = False) -> None:
        super().__init__(target)
        self.normalized = normalized

    @property
    def outputs(self) -> int:
        """None of its own."""
        return 1

    def attach(self, network: FeatureNetwork, head: nn.Module) -> nn.Module:
        """Return no decision layer."""
        return nn.Identity()

    def row_losses(self, out: Tensor, target: Tensor) -> Tensor:
        """Refuse: there is nothing to learn.

        Raises:
            InputError: Always.
        """
        raise InputError("the task embedding learns nothing", hint="train another task, and embed with its run: deepseek embed RUN DATA")

    def metrics(self) -> dict[str, Metric]:
        """Return the loss alone, which nobody computes."""
        return {"loss": family("metric").build("loss", self.target)}

    def decode(self, out: Tensor) -> dict[str, Tensor]:
        """Return `features`, float32 `[b, w]`, of `[b, m, w]`; not `embedding`, as values in graphs are called."""
        vectors = widened(out).mean(dim=1)
        return {"features": functional.normalize(vectors, dim=-1) if self.normalized else vectors}
