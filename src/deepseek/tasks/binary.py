"""Two classes."""

from __future__ import annotations

import torch
from torch import Tensor

from deepseek.data.targets import TargetSpec
from deepseek.tasks.base import LossSpec
from deepseek.tasks.classifier import Classifier, ClassifierArguments
from deepseek.tasks.losses import widened


class BinaryTask(Classifier):
    """Tells two classes apart with one output, the log-odds of the second class.

    The members' probabilities are averaged, not their log-odds, as the average of probabilities is what the ensemble's members vote for.

    Args:
        loss: The loss.
        arguments: Those of a classifier.
        metrics: The metrics beside the loss and `auc`; the usual ones where not given.
    """

    kind = "binary"
    monitor = "auc"
    usual_metrics = ("auc", "accuracy", "balanced_accuracy", "f1", "log_loss", "brier")

    def __init__(self, target: TargetSpec, /, *, loss: LossSpec = "binary_cross_entropy", **arguments: ClassifierArguments) -> None:
        super().__init__(target, loss, **arguments)

    @property
    def outputs(self) -> int:
        """One: the log-odds of the second class."""
        return 1

    def row_losses(self, out: Tensor, target: Tensor) -> Tensor:
        """Return one loss a row, `[b]`, for log-odds `[b, m, 1]` and targets between 0 and 1, `[b]`."""
        if self._class_weights is not None:
            # the row's weight is that of both classes mixed: each must have its own part in it; 0 and 1 stay what they are
            negative, positive = self._class_weights.to(target.device, torch.float32).unbind()
            weight = torch.lerp(negative, positive, target.float())
            target = torch.where(weight > 0, target * positive / weight, target)
        return self._loss.rows(self._adjusted(out), target)

    def _adjusted(self, out: Tensor) -> Tensor:
        """Return log-odds as the loss is to have them."""
        added = self._imbalance.added
        return out if added is None else widened(out) + (added[1] - added[0]).to(out.device)

    def row_weights(self, target: Tensor) -> Tensor | None:
        """Return the class weights of the rows, `[b]`; of a soft target, their mixture."""
        if self._class_weights is None:
            return None
        negative, positive = self._class_weights.to(target.device).unbind()
        return torch.lerp(negative, positive, target.float())

    def decode(self, out: Tensor) -> dict[str, Tensor]:
        """Return `probability`, float32 `[b, 2]`."""
        logit = widened(out).squeeze(-1)
        if taken := self._imbalance.taken:
            logit = logit - (taken[1] - taken[0])
        # Both from a sigmoid: 1 - p has no digits left where p is nearly 1.
        return {"probability": torch.stack((torch.sigmoid(-logit).mean(dim=1), torch.sigmoid(logit).mean(dim=1)), dim=1)}
