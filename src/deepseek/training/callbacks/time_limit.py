"""Stops in good order when the time is up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt

from deepseek.training.callbacks.base import Callback

if TYPE_CHECKING:
    from deepseek.training.trainer import Trainer


class TimeLimit(Callback):
    """Stops training after a time, counted over all resumes; the best weights so far are kept as always.

    Args:
        seconds: How long training may take, over 0.
    """

    def __init__(self, *, seconds: Annotated[float, Gt(0)]) -> None:
        self.seconds = seconds

    def on_log(self, trainer: Trainer) -> None:
        """Look at the clock."""
        if trainer.seconds >= self.seconds:
            trainer.stop(f"time limit: {self.seconds:g} s")
