"""The contract of every task: head, loss, metrics and decoding in one place.

Legend of shapes: `b` rows · `m` members of an ensemble · `w` width · `o` outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetKind, TargetSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from deepseek.tasks.metrics import Metric


class Task(ABC):
    """What a network is trained for.

    Args:
        target: What is to be predicted.

    Attributes:
        kind: The kind of target that the task takes.
        monitor: The metric that stopping, saving and tuning look at unless the recipe names another.
    """

    kind: TargetKind
    monitor: str

    def __init__(self, target: TargetSpec, /) -> None:
        self.target = target

    @property
    @abstractmethod
    def outputs(self) -> int:
        """`o`: how many numbers the head returns for a row and member."""

    @abstractmethod
    def head(self, width: int, members: int = 1) -> nn.Module:
        """Return the decision layer: `[b, m, width]` to `[b, m, o]`, each member with weights of its own."""

    @abstractmethod
    def loss(self, out: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the rows' losses and the sum of their weights, two scalars.

        The quotient of the sums over all micro-batches and ranks is the loss; members are averaged per row.
        """

    @abstractmethod
    def decode(self, out: Tensor) -> dict[str, Tensor]:
        """Turn `[b, m, o]` into answers, in operations that can be exported: probabilities `[b, o]`, values in the target's units."""

    @abstractmethod
    def answer(self, decoded: Mapping[str, Tensor]) -> pa.Table:
        """Turn decoded tensors into a table: `prediction`, and `probability_CLASS` columns where there are classes."""

    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """Return fresh metrics, by the name that recipes use; the loss among them."""
