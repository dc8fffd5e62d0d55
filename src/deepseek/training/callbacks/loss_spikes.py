"""A training loss that leaps up is named, with the steps between which it did; looked at where the loss is looked at anyway."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt

from deepseek.training.callbacks.base import Callback

if TYPE_CHECKING:
    from deepseek.training.trainer import Trainer

LEAST_KNOWN = 10
"""How many looks at the loss have to be known before one can stand out."""
_REMEMBERED = 50
_DEVIATIONS_OF_MAD = 1.4826
"""A normal distribution's standard deviation in median absolute deviations."""
_LEAST_SPREAD = 0.02
"""Where the loss hardly moves, a leap is measured against this part of it."""


class LossSpikes(Callback):
    """Names leaps of the training loss in the log and in `events.jsonl`.

    The mean loss between two looks is compared with the fifty before: with their median, in deviations of their spread, which one leap does
    not move (Huber, "Robust Statistics", 1981). Weights and steps are left alone.

    Args:
        deviations: From how many deviations above the median a loss is named, over 0.
    """

    def __init__(self, *, deviations: Annotated[float, Gt(0)]) -> None:
        self.deviations = deviations
        self._known: deque[float] = deque(maxlen=_REMEMBERED)
        self._sums = (0.0, 0.0)
        self._step = self._validations = 0

    def on_fit_start(self, trainer: Trainer) -> None:
        """Begin where the run stands."""
        self._sums, self._step, self._validations = trainer.state.loss_sum, trainer.state.step, len(trainer.state.history)

    def on_log(self, trainer: Trainer) -> None:
        """Compare the loss since the last look with those before."""
        sums, first, validations = trainer.state.loss_sum, self._step + 1, len(trainer.state.history)
        before = self._sums if validations == self._validations else (0.0, 0.0)  # a validation begins the sums anew
        self._sums, self._step, self._validations = sums, trainer.state.step, validations
        weight = sums[1] - before[1]
        if weight <= 0:
            return
        loss = (sums[0] - before[0]) / weight
        if len(self._known) >= LEAST_KNOWN and trainer.is_main:
            self._judge(trainer, loss, first)
        self._known.append(loss)

    def _judge(self, trainer: Trainer, loss: float, first: int) -> None:
        usual = median(self._known)
        spread = max(_DEVIATIONS_OF_MAD * median(abs(known - usual) for known in self._known), _LEAST_SPREAD * abs(usual))
        if loss <= usual + self.deviations * spread:
            return
        step = trainer.state.step
        said = f"the training loss leapt to {loss:.4g} between step {first} and step {step}, from {usual:.4g} before"
        trainer.remarks.say("loss_spike", said, step=step, first_step=first, loss=loss, usual_loss=usual)
