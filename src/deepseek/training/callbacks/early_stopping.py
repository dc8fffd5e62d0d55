"""Stops when the monitored metric has stopped getting better."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from deepseek.training.callbacks.base import Callback

if TYPE_CHECKING:
    from deepseek.training.trainer import Trainer


class EarlyStopping(Callback):
    """Stops training after validations without a gain (Prechelt, 1998, https://doi.org/10.1007/3-540-49430-8_3).

    It looks at the trainer's one monitored metric, the same that decides which weights are kept.

    Args:
        patience: Validations without a gain after which training stops, at least 1.
        min_delta: The least change of the metric that counts as a gain, at least 0.
    """

    def __init__(self, *, patience: Annotated[int, Ge(1)] = 10, min_delta: Annotated[float, Ge(0)] = 0.0) -> None:
        self.patience, self.min_delta = patience, min_delta
        self._best, self._waited = -math.inf, 0

    def on_fit_start(self, trainer: Trainer) -> None:
        """Stop again at once where a run is resumed that had been stopped."""
        self._judge(trainer)

    def on_validation(self, trainer: Trainer) -> None:
        """Count validations without a gain."""
        value = trainer.history[-1][trainer.monitor]
        score = value if trainer.higher_is_better else -value
        if score > self._best + self.min_delta:
            self._best, self._waited = score, 0
        else:
            self._waited += 1
        self._judge(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score and the validations since."""
        return {"best": None if math.isinf(self._best) else self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._best = -math.inf if state["best"] is None else state["best"]
        self._waited = state["waited"]

    def _judge(self, trainer: Trainer) -> None:
        if self._waited >= self.patience:
            trainer.stop(f"early stopping: {trainer.monitor} did not get better in {self._waited} validations")
