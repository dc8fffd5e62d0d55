"""How a search becomes an Optuna sampler whose proposals depend on nothing but the study's seed, the trial's place and what is finished.

Optuna's samplers carry a random state from trial to trial, so a study that is resumed, or worked on by several processes, proposes
something else (https://github.com/optuna/optuna/issues/3056). Here each trial gets a generator, or a sampler, of its own, whose seed is
the hash of (the study's seed, the trial's ordinal). The *ordinal* is a trial's number without those that were put back into the queue:
when a worker dies, the trials after it are what they would have been.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from deepseek.search.engine import decode, distributions, encode, quiet
from deepseek.search.ordinals import ordinal_of
from deepseek.search.space import Space

Propose: TypeAlias = Callable[[Study, FrozenTrial, int], dict[str, Any]]
"""What a search does: from the study, the trial and its ordinal to the point to try."""


def derived_seed(seed: int, ordinal: int) -> int:
    """Return the seed of one trial, in [0, 2³²)."""
    return int.from_bytes(sha256(f"{seed}:{ordinal}".encode()).digest()[:4], "little")


def tried(study: Study, space: Space, *, but: FrozenTrial) -> list[tuple[dict[str, Any], float | None]]:
    """Return the points of the other trials, whatever became of them, with the values of those that are complete."""
    rows = [one for one in study.get_trials(deepcopy=False) if one.number != but.number and one.params]
    return [(decode(space, one.params), one.value if one.state == TrialState.COMPLETE else None) for one in rows]


class TrialSampler(BaseSampler):
    """Proposes whole points by a function of the study, the trial and its ordinal.

    Args:
        space: What is searched.
        seed: The study's seed.
        propose: The search; dimensions that it leaves out are drawn at random.
    """

    def __init__(self, space: Space, seed: int, propose: Propose) -> None:
        self._space, self._seed, self._propose = space, seed, propose
        self._distributions = distributions(space)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the whole space: it is the same in every trial."""
        return self._distributions

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """Return the point to try, in Optuna's values."""
        ordinal = ordinal_of(trial, study.get_trials(deepcopy=False))
        random = random_point(self._space, self._seed, ordinal)
        return encode(self._space, random | self._propose(study, trial, ordinal))

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        """Return one dimension's random value: of a trial that came back into the queue before all of its point was on record."""
        ordinal = ordinal_of(trial, study.get_trials(deepcopy=False))
        return encode(self._space, random_point(self._space, self._seed, ordinal))[param_name]


def random_point(space: Space, seed: int, ordinal: int) -> dict[str, Any]:
    """Return a trial's random point: every dimension uniformly along its scale."""
    return space.at(np.random.default_rng(derived_seed(seed, ordinal)).random(len(space)).tolist())


def fresh(space: Space, seed: int, make: Callable[[int], BaseSampler]) -> Propose:
    """Return a search that asks one of Optuna's samplers, made anew for each trial so that it remembers nothing.

    Args:
        space: What is searched.
        seed: The study's seed.
        make: Makes the sampler from a trial's own seed.
    """
    searched = {name: one for name, one in distributions(space).items() if not one.single()}

    def propose(study: Study, trial: FrozenTrial, ordinal: int) -> dict[str, Any]:
        with quiet():
            return decode(space, make(derived_seed(seed, ordinal)).sample_relative(study, trial, searched))

    return propose
