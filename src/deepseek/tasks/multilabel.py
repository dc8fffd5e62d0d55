"""Any number of labels a row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Lt
from torch import Tensor

from deepseek.data.targets import TargetSpec, effective_number
from deepseek.errors import InputError, UnknownNameError
from deepseek.registry import family
from deepseek.tasks.base import LossSpec, MetricSpec, Task
from deepseek.tasks.imbalance import Probabilities, require_known_shift
from deepseek.tasks.losses import Loss, by_output, widened


class MultilabelTask(Task):
    """Says of each label whether it is true, by a sigmoid each; the members' probabilities are averaged.

    Args:
        loss: The loss.
        class_weights: How much a label's true rows count, its false rows counting 1: `balanced` for (false rows)/(true rows), `effective`
            for the same of effective numbers of rows, or numbers by label; a label that is not named has 1.
        effective_beta: For `effective`: a further row is new with this probability to the power of the rows before.
        probabilities: `as_trained`, or `of_data`, which takes out of the answers again what the weights put in.
        metrics: The metrics beside the loss and `auc`; the usual ones where not given.

    Raises:
        InputError: A weight is not above 0 and finite.
        UnknownNameError: A weight is given to what is no label.
    """

    kind = "labels"
    monitor = "auc"
    usual_metrics = ("auc", "accuracy", "f1", "log_loss")

    def __init__(
        self,
        target: TargetSpec,
        /,
        *,
        loss: LossSpec = "binary_cross_entropy",
        class_weights: Literal["balanced", "effective"] | dict[str, float] | None = None,
        effective_beta: Annotated[float, Ge(0.0), Lt(1.0)] = 0.999,
        probabilities: Probabilities = "as_trained",
        metrics: list[MetricSpec] | None = None,
    ) -> None:
        super().__init__(target)
        self._loss: Loss = family("loss").build(loss, target)
        positive = None if class_weights is None else _positive_weights(target, class_weights, effective_beta)
        self._positive_weights = None if positive is None else torch.tensor(positive)
        self._taken: list[float] = []
        if probabilities == "of_data":
            require_known_shift(self._loss)
            self._taken = [math.log(weight) for weight in positive or ()]
        self._metrics = self.usual_metrics if metrics is None else metrics

    @property
    def outputs(self) -> int:
        """One for each label."""
        return len(self.target.classes)

    def row_losses(self, out: Tensor, target: Tensor) -> Tensor:
        """Return one loss a row, `[b]`: the mean over labels and members, for `[b, m, labels]` and `[b, labels]` between 0 and 1."""
        if self._positive_weights is None:
            return self._loss.rows(out, target)
        out = widened(out)
        wanted, positive = by_output(target, out), self._positive_weights.to(out)
        weight = torch.lerp(torch.ones_like(out[:1, :1]), positive, wanted)
        # of a soft target the true part has the positive weight and the false part 1; 0 and 1 stay what they are
        return (self._loss.terms(out, wanted * positive / weight) * weight).flatten(1).mean(dim=1)

    def decode(self, out: Tensor) -> dict[str, Tensor]:
        """Return `probability`, float32 `[b, labels]`."""
        logits = widened(out)
        if self._taken:
            logits = logits - torch.tensor(self._taken, dtype=logits.dtype, device=logits.device)
        return {"probability": logits.sigmoid().mean(dim=1)}


def _positive_weights(target: TargetSpec, given: Literal["balanced", "effective"] | Mapping[str, float], beta: float) -> list[float]:
    if not isinstance(given, Mapping):
        true = np.array(target.counts, dtype=np.float64)
        false = target.rows - true
        if given == "effective":
            true, false = effective_number(true, beta), effective_number(false, beta)
        # A label that is always or never true has nothing to balance.
        return [no / yes if no > 0 and yes > 0 else 1.0 for no, yes in zip(false.tolist(), true.tolist(), strict=True)]
    for name, weight in given.items():
        if name not in target.classes:
            raise UnknownNameError("label", name, target.classes)
        if not 0 < weight < float("inf"):
            raise InputError(f"the weight of the label {name!r} is {weight}", hint="weights are finite and above 0")
    return [float(given.get(name, 1.0)) for name in target.classes]
