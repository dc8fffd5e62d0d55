"""Watching for numbers that have stopped being numbers, without waiting for the device every step.

A NaN or infinity that enters the running sum of the loss never leaves it, so looking at the sum now and then misses nothing; what a look
finds lies between it and the look before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from deepseek.errors import NonFiniteError
from deepseek.optim.in_place import global_norm


class NonFiniteGuard:
    """Stops training when the loss or the weights are NaN or infinite.

    Attributes:
        checked: The step of the last look that found all well.
        checkpoint: The last checkpoint, which was written after such a look.
        first_weights: The weights before the first step, kept until there is a checkpoint to go back to.
        broken: Between which steps a look found something, once one has.
    """

    def __init__(self) -> None:
        self.checked = 0
        self.checkpoint: Path | None = None
        self.first_weights: dict[str, Tensor] = {}
        self.broken: tuple[int, int] | None = None

    def saved(self, checkpoint: Path) -> None:
        """Take note of a checkpoint: from now on a run goes back to it."""
        self.checkpoint, self.first_weights = checkpoint, {}

    def check(self, step: int, loss_sum: float, weights: Sequence[Tensor] = ()) -> None:
        """Look at the running sum of the loss and, where they are given, at the weights.

        Args:
            step: Optimizer steps made.
            loss_sum: Sum of the loss numerators, over all ranks.
            weights: To be given before a checkpoint: a loss says nothing of the step that came after it.

        Raises:
            NonFiniteError: One of them is NaN or infinite.
        """
        what = None if math.isfinite(loss_sum) else "the loss"
        if what is None and weights and not bool(torch.isfinite(global_norm(weights))):
            what = "a weight"
        if what is not None:
            first = min(self.checked + 1, step)
            self.broken = (first, step)
            raise NonFiniteError(f"{what} became NaN or infinite between step {first} and step {step}", hint=self._hint())
        self.checked = step

    def _hint(self) -> str:
        known = f"the last good checkpoint is {self.checkpoint}" if self.checkpoint else "no checkpoint was written before"
        return f"{known}; try a lower learning_rate, clip_norm: 1.0, precision: fp32, or on_nonfinite: skip, and look for extreme inputs"
