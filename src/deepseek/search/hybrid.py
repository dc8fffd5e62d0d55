"""The hybrid search: a coarse grid to seed, Bayes to refine, a fine grid around the best to finish."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
from annotated_types import Ge, Gt, Le

from deepseek.search.base import Search
from deepseek.search.engine import load_optuna
from deepseek.search.searches import GpSearch, TpeSearch
from deepseek.search.space import Choice, Dimension, Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial

Share: TypeAlias = Annotated[float, Ge(0), Le(1)]
Tried: TypeAlias = list[tuple[dict[str, Any], float | None]]

_HALVINGS = 8


class HybridSearch(Search):
    """Seeds with a few points of a coarse grid, refines with Bayes, and finishes with a fine grid around the best point.

    The seeds are a Latin hypercube over the coarse grid (McKay, Beckman and Conover, 1979, https://doi.org/10.2307/1268522): each level of
    each dimension comes equally often, so that a few points show every dimension's rough effect, where random ones leave holes. Bayes
    (Bergstra et al., 2011, https://papers.nips.cc/paper/4443) then learns from the first trial after them. The last trials change the best
    point in one dimension at a time, and move with it when it changes: pattern search (Hooke and Jeeves, 1961,
    https://doi.org/10.1145/321062.321069). Which phase a trial belongs to depends on its place in the study alone; what it tries, on the
    trials that are there by then.

    Args:
        seed_share: The part of the trials that seeds, in [0, 1]; at least one trial does.
        local_share: The part of the trials that finishes, in [0, 1].
        points: Levels of the coarse grid in each range, at least 2; choices have all of theirs.
        reach: How far the fine grid's first points lie from the best one, as a part of the range in (0, 1]; halved when all were tried.
        bayes: What refines in between.
    """

    def __init__(
        self,
        *,
        seed_share: Share = 0.1,
        local_share: Share = 0.2,
        points: Annotated[int, Ge(2)] = 3,
        reach: Annotated[float, Gt(0), Le(1)] = 0.2,
        bayes: Literal["tpe", "gp"] = "tpe",
    ) -> None:
        self.seed_share, self.local_share, self.points, self.reach, self.bayes = seed_share, local_share, points, reach, bayes

    def sampler(self, space: Space, *, seed: int, trials: int) -> BaseSampler:
        """Return the sampler of a study; see `Search.sampler`."""
        load_optuna("hybrid search")
        from deepseek.search.samplers import TrialSampler, derived_seed, fresh, tried

        bayes = TpeSearch(startup=1) if self.bayes == "tpe" else GpSearch(startup=1)
        refine = fresh(space, seed, bayes.optuna_sampler)
        seeds, first_local = self.phases(trials)
        grid = self.seed_points(space, np.random.default_rng(derived_seed(seed, -1)), seeds)

        def propose(study: Study, trial: FrozenTrial, ordinal: int) -> dict[str, Any]:
            if ordinal < seeds:
                return grid[ordinal]
            if ordinal < first_local:
                return refine(study, trial, ordinal)
            rows = tried(study, space, but=trial)
            return self.local_point(space, rows, np.random.default_rng(derived_seed(seed, ordinal)), sign=_sign(study))

        return TrialSampler(space, seed, propose)

    def phases(self, trials: int) -> tuple[int, int]:
        """Return how many trials seed, and the ordinal of the first that finishes."""
        seeds = max(round(self.seed_share * trials), 1)
        return seeds, max(trials - round(self.local_share * trials), seeds)

    def seed_points(self, space: Space, generator: np.random.Generator, count: int) -> list[dict[str, Any]]:
        """Return `count` points of the coarse grid, the levels of each dimension as evenly spread over them as the numbers allow."""
        columns = []
        for dimension in space.values():
            levels = len(dimension.values) if isinstance(dimension, Choice) else self.points
            columns.append(((generator.permutation(count) + generator.integers(levels)) % levels + 0.5) / levels)
        return [space.at([float(column[row]) for column in columns]) for row in range(count)]

    def local_point(self, space: Space, rows: Tried, generator: np.random.Generator, *, sign: int) -> dict[str, Any]:
        """Return an untried point next to the best one, on the coarsest grid around it that has any; nothing where there is none.

        Args:
            space: What is searched.
            rows: The points tried so far, with the values of those that are complete.
            generator: What chooses among neighbours.
            sign: 1 where small values are better, −1 where large ones are.
        """
        complete = [(sign * value, index) for index, (_, value) in enumerate(rows) if value is not None]
        if not complete:
            return {}
        known = [point for point, _ in rows]
        best = known[min(complete)[1]]
        for halving in range(_HALVINGS):
            around = [point for point in neighbours(space, best, self.reach / 2**halving) if point not in known]
            if around:
                return around[int(generator.integers(len(around)))]
        return {}


def neighbours(space: Space, centre: dict[str, Any], reach: float) -> Iterable[dict[str, Any]]:
    """Return the points that differ from one in a single dimension: by `reach` along a range, by another choice.

    Args:
        space: What is searched.
        centre: The point in the middle.
        reach: The distance along a range, as a part of it; of whole numbers, at least the next one.
    """
    return [centre | {name: value} for name, dimension in space.items() for value in _beside(dimension, centre[name], reach)]


def _beside(dimension: Dimension, value: Any, reach: float) -> list[Any]:
    if isinstance(dimension, Choice):
        return [other for index, other in enumerate(dimension.values) if index != dimension.index(value)]
    place = dimension.place(value)
    step = max(reach, 1 / dimension.size) if dimension.size else reach
    return [other for at in (place - step, place + step) if (other := dimension.at(min(max(at, 0.0), 1.0))) != value]


def _sign(study: Study) -> int:
    return 1 if study.direction.name == "MINIMIZE" else -1
