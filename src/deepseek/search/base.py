"""The contracts of the families `search` and `pruner`: settings that make an Optuna sampler or pruner when a study begins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from deepseek.search.space import Space

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler


class Search(ABC):
    """How the next point of a space is proposed.

    A search has no state of its own: what it proposes for a trial is a function of the space, the seed, the trial's place in the study
    and the trials that are there by then. So a study that was interrupted goes on as it would have.
    """

    @abstractmethod
    def sampler(self, space: Space, *, seed: int, trials: int) -> BaseSampler:
        """Return the Optuna sampler of a study.

        Args:
            space: What is searched.
            seed: The study's seed, from which all randomness derives.
            trials: How many trials the study has in all.

        Raises:
            MissingExtraError: Optuna, or a library that this search needs besides, is not installed.
        """


class Pruner(ABC):
    """When a trial is given up because its interim values promise too little."""

    @abstractmethod
    def pruner(self) -> BasePruner:
        """Return the Optuna pruner of a study.

        Raises:
            MissingExtraError: Optuna is not installed.
        """
