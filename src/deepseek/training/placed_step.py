"""The training step of a model that is in parts on several ranks."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from deepseek.data.batch import Batch
from deepseek.distributed.strategies import Placement
from deepseek.errors import InputError
from deepseek.training.step import TINY, Loss, StepRules, TrainingStep

_ELEMENTWISE = frozenset(
    {
        *(torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.NAdam),
        *(torch.optim.RAdam, torch.optim.Adadelta, torch.optim.Adamax),
    }
)
_RULES = frozenset({"clip_norm", "clip_value", "l1", "l2", "max_norm", "on_nonfinite"})


class PlacedStep(TrainingStep):
    """A training step on this rank's part of a model.

    The optimizer sees plain tensors, the rank's parts, and works element by element; the norm of the gradients is taken over all parts.

    Args:
        placement: How the model is shared out.
        loss: As for `TrainingStep`.
        optimizer: Over the rank's parts.
        options: The keyword arguments of `TrainingStep`.

    Raises:
        InputError: The optimizer or a rule looks at whole tensors, of which a rank has a part.
    """

    def __init__(self, placement: Placement, loss: Loss, optimizer: torch.optim.Optimizer, **options: Any) -> None:
        super().__init__(placement.module, loss, optimizer, **options)
        self.placement, self._loss = placement, loss
        placement.precision = self.precision
        self._refuse()

    def __call__(self, batch: Batch) -> None:
        """Make one optimizer step; all ranks together.

        Args:
            batch: This rank's rows.
        """
        numerator, denominator = self.placement.backward(batch, loss=self._loss, pieces=self.micro_batches, least=self.least_rows)
        self._count(numerator, denominator)
        total = self.placement.finish(denominator)
        torch._foreach_div_(self._gradients(self.parameters), total.clamp_min(TINY))
        self._apply()
        self._queued()

    def _norm(self) -> Tensor:
        """Return the joint norm of the parts of all ranks, the same on every rank."""
        return self.placement.norm(self.parameters)

    def _refuse(self) -> None:
        usual = StepRules()
        others = [field.name for field in fields(self.rules) if field.name not in _RULES]
        unknown = sorted(name for name in others if getattr(self.rules, name) != getattr(usual, name))
        if unknown:
            raise InputError(f"{', '.join(unknown)} does not go with a model that is in parts on several ranks", hint="take strategy: ddp")
        if self.placement.cuts_tensors and type(self.optimizer) not in _ELEMENTWISE:
            raise InputError(
                f"the optimizer {type(self.optimizer).__name__} looks at whole tensors, and this strategy gives a rank a part of each",
                hint="take strategy: ddp or pipeline, or the optimizer adamw, adam or sgd",
            )
