"""Two classes."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from deepseek.data.resample import Resample
from deepseek.data.targets import TargetSpec
from deepseek.registry import family
from deepseek.tasks.base import LossSpec, MetricSpec, Task
from deepseek.tasks.imbalance import Imbalance, Probabilities
from deepseek.tasks.losses import Loss, widened


class BinaryTask(Task):
    """Tells two classes apart with one output, the log-odds of the second class.

    The members' probabilities are averaged, not their log-odds, as the average of probabilities is what the ensemble's members vote for.

    Args:
        loss: The loss.
        class_weights: `balanced`, so that both classes weigh alike in sum; `effective`, by the effective number of rows, which spares
            frequent classes; or weights by class name; they multiply the rows' own weights.
        effective_beta: For `effective`: a further row of a class is new with this probability to the power of the rows before.
        resample: Draws every class equally often in training, without copying a row: `over` takes as many rows of each as the most frequent
            class has, `under` as the rarest, `balanced` as many in all as there are. Not together with weights that do the same.
        logit_adjustment: Adds this many times the classes' log-frequencies to the logits in the loss, so that rare classes get a margin
            (Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, https://arxiv.org/abs/2007.07314); 1 for equal errors.
        probabilities: All of these shift what is answered towards rare classes: `as_trained` leaves it so, which is what decisions by the
            likeliest class want; `of_data` takes the shift out again, so that of rows with probability 0.3 three in ten are of the class.
        metrics: The metrics beside the loss and `auc`; the usual ones where not given.
    """

    kind = "binary"
    monitor = "auc"
    usual_metrics = ("auc", "accuracy", "balanced_accuracy", "f1", "log_loss", "brier")

    def __init__(  # noqa: PLR0913 (its arguments are its settings)
        self,
        target: TargetSpec,
        /,
        *,
        loss: LossSpec = "binary_cross_entropy",
        class_weights: Literal["balanced", "effective"] | dict[str, float] | None = None,
        effective_beta: Annotated[float, Ge(0.0), Lt(1.0)] = 0.999,
        resample: Resample | None = None,
        logit_adjustment: Annotated[float, Ge(0.0)] = 0.0,
        probabilities: Probabilities = "as_trained",
        metrics: list[MetricSpec] | None = None,
    ) -> None:
        super().__init__(target)
        self._loss: Loss = family("loss").build(loss, target)
        self.resample = resample
        self._imbalance = Imbalance(
            target,
            self._loss,
            weights=class_weights,
            beta=effective_beta,
            resample=resample,
            logit_adjustment=logit_adjustment,
            probabilities=probabilities,
        )
        self._class_weights = self._imbalance.weights
        self._metrics = self.usual_metrics if metrics is None else metrics

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
