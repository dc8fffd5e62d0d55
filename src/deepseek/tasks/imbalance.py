"""What is done about classes of unequal frequency, and what that does to probabilities.

Weights, resampling and adjusted logits all teach a network a world in which classes are not as frequent as they are in the data. By
cross-entropy it learns that world's probabilities exactly: those of the data, times a factor for each class, made to sum to 1. The factors
are known, and so can be taken out again (Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori
probabilities", Neural Computation 14, 2002, https://doi.org/10.1162/089976602753284446; Elkan, "The foundations of cost-sensitive
learning", IJCAI 2001).

Legend of shapes: `k` classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from deepseek.data.resample import Resample
from deepseek.data.targets import TargetSpec, class_weights
from deepseek.errors import InputError
from deepseek.tasks.losses import FocalLoss, Loss

ClassWeights = Literal["balanced", "effective"] | Mapping[str, float] | None
Probabilities = Literal["as_trained", "of_data"]


class Imbalance:
    """The weights of classes, what is added to logits in the loss, and what is taken off them in an answer.

    Args:
        target: What is predicted: `binary` or `classes`.
        loss: The loss.
        weights: The task's class weights.
        beta: Of the effective number of rows, in [0, 1).
        resample: How training rows are drawn.
        logit_adjustment: How strongly the classes' frequencies are added to the logits in the loss, 0 or more.
        probabilities: Whether answers are of the world that was trained in, or of the data.

    Attributes:
        weights: Float32 `[k]`, or nothing.
        added: What the loss adds to the logits, float32 `[k]`, or nothing.
        taken: What an answer takes off them, by class; empty for nothing.

    Raises:
        InputError: Two remedies would do the same thing twice, or the probabilities of the data cannot be had back.
    """

    def __init__(
        self,
        target: TargetSpec,
        loss: Loss,
        *,
        weights: ClassWeights,
        beta: float,
        resample: Resample | None,
        logit_adjustment: float,
        probabilities: Probabilities,
    ) -> None:
        automatic = isinstance(weights, str)
        given = [name for name, on in (("class_weights", automatic), ("resample", resample), ("logit_adjustment", logit_adjustment)) if on]
        if len(given) > 1:
            raise InputError(
                f"{' and '.join(given)} would each make classes count alike", hint="take one of them; weights by name go with any"
            )
        by_class = None if weights is None else class_weights(target, weights, beta=beta)
        self.weights = None if by_class is None else torch.tensor(by_class, dtype=torch.float32)
        log_share = np.log(np.array(target.counts, dtype=np.float64) / max(sum(target.counts), 1)) if target.counts else np.zeros(0)
        self.added = torch.tensor(logit_adjustment * log_share, dtype=torch.float32) if logit_adjustment else None
        self.taken: tuple[float, ...] = ()
        if probabilities == "of_data":
            require_known_shift(loss)
            self.taken = _shift(by_class, log_share, resample=resample, logit_adjustment=logit_adjustment)

    def adjusted(self, out: Tensor) -> Tensor:
        """Return a network's logits `[b, m, k]` as the loss is to have them, at least float32."""
        return out if self.added is None else out.to(torch.promote_types(out.dtype, torch.float32)) + self.added.to(out.device)


def require_known_shift(loss: Loss) -> None:
    """See that what a loss teaches is probabilities times known factors.

    Raises:
        InputError: It is the focal loss, by which a network learns something else.
    """
    if isinstance(loss, FocalLoss) and loss.gamma:
        raise InputError(
            "the focal loss teaches no probabilities that could be corrected: how unsure they are differs from row to row",
            hint="take cross-entropy with class_weights or resample, or leave probabilities as_trained",
        )


def _shift(weights: np.ndarray | None, log_share: np.ndarray, *, resample: Resample | None, logit_adjustment: float) -> tuple[float, ...]:
    """Return by how much each class's log-probability is off in the world that is trained in, up to what all have in common."""
    if weights is not None and (weights == 0).any():
        raise InputError("a class weighs nothing, so that nothing is learned of it", hint="give each class a weight above 0")
    log_weights = np.zeros_like(log_share) if weights is None else np.log(weights)
    shift = log_weights - (float(resample is not None) + logit_adjustment) * log_share
    return tuple((shift - shift.mean()).tolist()) if np.ptp(shift) > 0 else ()
