"""One of several classes."""

from __future__ import annotations

import torch
from torch import Tensor

from deepseek.data.targets import TargetSpec
from deepseek.tasks.base import LossSpec
from deepseek.tasks.classifier import Classifier, ClassifierArguments
from deepseek.tasks.losses import widened


class MulticlassTask(Classifier):
    """Chooses one of several classes by a softmax; the members' probabilities are averaged.

    Args:
        loss: The loss.
        arguments: Those of a classifier.
        metrics: The metrics beside the loss and `accuracy`; the usual ones where not given.
    """

    kind = "classes"
    monitor = "accuracy"
    usual_metrics = ("accuracy", "balanced_accuracy", "f1", "log_loss")

    def __init__(self, target: TargetSpec, /, *, loss: LossSpec = "cross_entropy", **arguments: ClassifierArguments) -> None:
        super().__init__(target, loss, **arguments)

    @property
    def outputs(self) -> int:
        """One for each class."""
        return len(self.target.classes)

    def row_losses(self, out: Tensor, target: Tensor) -> Tensor:
        """Return one loss a row, `[b]`, for `[b, m, classes]` and codes int64 `[b]` or shares float `[b, classes]`."""
        if self._class_weights is not None and target.is_floating_point():
            # the row's weight is that of its classes mixed: each class must have its own part in it
            target = torch.nn.functional.normalize(target * self._class_weights.to(target), p=1.0, dim=1)
        return self._loss.rows(self._imbalance.adjusted(out), target)

    def row_weights(self, target: Tensor) -> Tensor | None:
        """Return the class weights of the rows, `[b]`; of a soft target, their mixture."""
        if self._class_weights is None:
            return None
        weights = self._class_weights.to(target.device)
        return target.to(weights.dtype) @ weights if target.is_floating_point() else weights[target.long()]

    def decode(self, out: Tensor) -> dict[str, Tensor]:
        """Return `probability`, float32 `[b, classes]`."""
        logits = widened(out)
        if taken := self._imbalance.taken:
            logits = logits - torch.tensor(taken, dtype=logits.dtype, device=logits.device)
        return {"probability": logits.softmax(dim=-1).mean(dim=1)}
