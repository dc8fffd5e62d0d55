"""When to give a trial up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from deepseek.search.base import Pruner
from deepseek.search.engine import load_optuna

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


class NoPruner(Pruner):
    """Never: every trial runs to its end."""

    def pruner(self) -> BasePruner:
        """Return Optuna's pruner of this kind."""
        load_optuna("pruning")
        from optuna.pruners import NopPruner

        return NopPruner()


class MedianPruner(Pruner):
    """Gives a trial up when its best value so far is worse than the median of the others' at the same step (Golovin et al., 2017, https://doi.org/10.1145/3097983.3098043).

    Args:
        startup: Trials that must be complete before any is given up, at least 1.
        warmup_steps: Steps that each trial gets in any case.
        interval_steps: Steps between two looks, at least 1.
    """

    def __init__(
        self, *, startup: Annotated[int, Ge(1)] = 5, warmup_steps: Annotated[int, Ge(0)] = 0, interval_steps: Annotated[int, Ge(1)] = 1
    ) -> None:
        self.startup, self.warmup_steps, self.interval_steps = startup, warmup_steps, interval_steps

    def pruner(self) -> BasePruner:
        """Return Optuna's pruner of this kind."""
        load_optuna("pruning")
        from optuna.pruners import MedianPruner as OptunaPruner

        return OptunaPruner(n_startup_trials=self.startup, n_warmup_steps=self.warmup_steps, interval_steps=self.interval_steps)


class AshaPruner(Pruner):
    """Lets the best of every `reduction` trials pass a rung, rungs standing ever further apart (ASHA: Li et al., 2020, https://arxiv.org/abs/1810.05934).

    Asynchronous: no trial waits for another, so it suits several workers.

    Args:
        min_steps: Steps that each trial gets before the first rung, at least 1.
        reduction: One in how many passes a rung, at least 2; a rung lies that many times further than the one before.
    """

    def __init__(self, *, min_steps: Annotated[int, Ge(1)] = 1, reduction: Annotated[int, Ge(2)] = 3) -> None:
        self.min_steps, self.reduction = min_steps, reduction

    def pruner(self) -> BasePruner:
        """Return Optuna's pruner of this kind."""
        load_optuna("pruning")
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(min_resource=self.min_steps, reduction_factor=self.reduction)
