"""The contract of every task: head, loss, metrics and decoding in one place.

Legend of shapes: `b` rows · `m` members of an ensemble · `w` width · `o` outputs. A task that takes maps or sequences has `[b, w, *space]`
or `[b, l, w]` in the place of `[b, m, w]`, and `[b, o, *space]` or `[b, l, o]` in that of `[b, m, o]`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from deepseek.data.batch import Batch
from deepseek.data.resample import Resample
from deepseek.data.targets import TargetKind, TargetSpec
from deepseek.errors import InputError
from deepseek.models.base import Features
from deepseek.models.layers import MemberLinear, init_uniform
from deepseek.registry import Spec, component, family, split_spec
from deepseek.tasks.answers import answer_table

if TYPE_CHECKING:
    import pyarrow as pa

    from deepseek.tasks.answers import Decoded
    from deepseek.tasks.metrics import Metric

    LossSpec = dict[str, Any] | str
    MetricSpec = dict[str, Any] | str
else:
    LossSpec = component("loss")
    MetricSpec = component("metric")

TARGET = "target"
"""The key of the target in `Batch.targets`."""


class Task(ABC):
    """What a network is trained for.

    Args:
        target: What is to be predicted.

    Attributes:
        kind: The kind of target that the task takes.
        takes: The features that the decision layer takes: a `vector` a row, a `map` or a `sequence`.
        monitor: The metric that stopping, saving and tuning look at unless the recipe names another.
        usual_metrics: The metrics computed unless the recipe names others; the loss is always there.
        resample: Whether training draws every class equally often, and how.
        target_settings: The names of those of its arguments that say how its target is to be read; `target_spec` hands them on.

    Raises:
        InputError: The target is of another kind.
    """

    kind: ClassVar[TargetKind]
    takes: ClassVar[Features] = "vector"
    monitor: ClassVar[str]
    usual_metrics: ClassVar[tuple[str, ...]] = ()
    resample: Resample | None = None
    target_settings: ClassVar[tuple[str, ...]] = ()

    def __init__(self, target: TargetSpec, /) -> None:
        if target.kind != self.kind:
            raise InputError(
                f"the task {type(self).__name__} takes a target of kind {self.kind!r}, and {', '.join(target.columns)} is {target.kind!r}",
                hint="choose the task for this target, or set the kind of the column",
            )
        self.target = target
        self._metrics: Sequence[Spec] = self.usual_metrics

    @classmethod
    def target_spec(cls, task: Mapping[str, Any]) -> dict[str, Any]:
        """Return the spec of the target that a task is for: its kind, and what the task's own spec says of it.

        Args:
            task: The task's spec, validated.
        """
        return {"type": cls.kind, **{name: task[name] for name in cls.target_settings if task.get(name) is not None}}

    @property
    @abstractmethod
    def outputs(self) -> int:
        """`o`: how many numbers the head returns for a row and member."""

    def head(self, width: int, members: int = 1) -> nn.Module:
        """Return the decision layer: `[b, m, width]` to `[b, m, o]`, each member with weights of its own."""
        if members > 1:
            return MemberLinear(members, width, self.outputs)
        head = nn.Linear(width, self.outputs)
        init_uniform(head.weight, width)
        init_uniform(head.bias, width)
        return head

    @abstractmethod
    def row_losses(self, out: Tensor, target: Tensor) -> Tensor:
        """Return one loss a row, float `[b]`, the mean over the members.

        Args:
            out: `[b, m, o]`.
            target: As the batch holds it.
        """

    def row_weights(self, target: Tensor) -> Tensor | None:
        """Return what the task itself weighs each row with (class weights), float `[b]`, or nothing."""
        return None

    def loss(self, out: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the rows' losses and the sum of their weights, two scalars.

        The quotient of the sums over all micro-batches and ranks is the loss; members are averaged per row.
        """
        target = batch.targets[TARGET]
        losses = self.row_losses(out, target)
        weight = self.row_weights(target)
        if batch.weight is not None:
            weight = batch.weight if weight is None else weight * batch.weight
        if weight is None:
            return losses.sum(), losses.new_full((), losses.shape[0])
        return (losses * weight).sum(), weight.sum()

    @abstractmethod
    def decode(self, out: Tensor) -> dict[str, Tensor]:
        """Turn `[b, m, o]` into answers, in operations that can be exported: probabilities `[b, o]`, standardised values `[b, o]`."""

    def answer(self, decoded: Mapping[str, Decoded]) -> pa.Table:
        """Turn what `decode` returned, as tensors or arrays, into a table.

        It has the column `prediction`, and `probability_CLASS` columns where there are classes; numbers are in the target's units.
        """
        return answer_table(self.target, decoded)

    def metrics(self) -> dict[str, Metric]:
        """Return fresh metrics, by the name that recipes use; the loss among them."""
        registry = family("metric")
        named = {split_spec("metric", spec)[0]: spec for spec in ("loss", self.monitor, *self._metrics)}
        return {name: registry.build(spec, self.target) for name, spec in named.items()}
