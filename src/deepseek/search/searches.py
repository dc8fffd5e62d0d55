"""The plain searches: all points of a grid, random points, and two ways of Bayesian optimization."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from deepseek.progress import warn
from deepseek.search.base import Search
from deepseek.search.engine import load_optuna, require
from deepseek.search.space import Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class RandomSearch(Search):
    """Draws every point at random, each dimension uniformly along its scale (Bergstra and Bengio, 2012, https://jmlr.org/papers/v13/bergstra12a.html).

    The baseline that every other search has to beat; and nothing is better where trials cannot learn from each other.
    """

    def sampler(self, space: Space, *, seed: int, trials: int) -> BaseSampler:
        """Return the sampler of a study; see `Search.sampler`."""
        load_optuna("random search")
        from deepseek.search.samplers import TrialSampler

        return TrialSampler(space, seed, lambda *_: {})


class GridSearch(Search):
    """Tries the points of a regular grid: all of them, or as many as there are trials, spread evenly over it.

    Args:
        points: Values for each range, at least 1: both ends and evenly between them along its scale; choices are all tried.
    """

    def __init__(self, *, points: Annotated[int, Ge(1)] = 3) -> None:
        self.points = points

    def sampler(self, space: Space, *, seed: int, trials: int) -> BaseSampler:
        """Return the sampler of a study; see `Search.sampler`."""
        load_optuna("grid search")
        from deepseek.search.samplers import TrialSampler

        total = self.size(space)
        if total > trials:
            warn(
                f"the grid has {total} points and the study {trials} trials: it tries points spread evenly over the grid; "
                f"lower 'points' (now {self.points}) or raise the trials to try all"
            )
        return TrialSampler(space, seed, lambda _study, _trial, ordinal: self.point(space, ordinal))

    def size(self, space: Space) -> int:
        """Return how many points the grid has."""
        return math.prod(len(dimension.levels(self.points)) for dimension in space.values())

    def point(self, space: Space, ordinal: int) -> dict[str, Any]:
        """Return one point of the grid; after the last comes the first again.

        The grid is walked with a stride near the golden section of its size and prime to it: any run of it is spread evenly (Weyl,
        1916), no point comes twice, and every dimension changes. The walk does not hang on the budget, so that a study whose budget is
        raised goes on to the points that are left.
        """
        levels = [dimension.levels(self.points) for dimension in space.values()]
        total = self.size(space)
        index = ordinal * _stride(total) % total
        point = {}
        for name, values in zip(reversed(list(space)), reversed(levels), strict=True):
            index, digit = divmod(index, len(values))
            point[name] = values[digit]
        return {name: point[name] for name in space}


class TpeSearch(Search):
    """Draws points from where good ones were denser than bad ones (tree-structured Parzen estimators: Bergstra et al., 2011, https://papers.nips.cc/paper/4443).

    Cheap (a few milliseconds a trial), at home with choices, and tolerant of noise. Optuna's multivariate form
    (https://arxiv.org/abs/2304.11127), which learns from trials under way as well.

    Args:
        startup: Random points before it begins to learn, at least 1.
        candidates: Points drawn for each proposal, of which the best is taken, at least 1.
    """

    def __init__(self, *, startup: Annotated[int, Ge(1)] = 10, candidates: Annotated[int, Ge(1)] = 24) -> None:
        self.startup, self.candidates = startup, candidates

    def sampler(self, space: Space, *, seed: int, trials: int) -> BaseSampler:
        """Return the sampler of a study; see `Search.sampler`."""
        load_optuna("TPE search")
        from deepseek.search.samplers import TrialSampler, fresh

        return TrialSampler(space, seed, fresh(space, seed, self.optuna_sampler))

    def optuna_sampler(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler of this kind, for one trial."""
        from optuna.samplers import TPESampler

        return TPESampler(n_startup_trials=self.startup, n_ei_candidates=self.candidates, seed=seed)


class GpSearch(Search):
    """Fits a Gaussian process to the trials and takes the point with the largest expected improvement.

    Efficient global optimization (Jones, Schonlau and Welch, 1998, https://doi.org/10.1023/A:1008306431147), in Optuna's form.
    The most sparing with trials on smooth objectives of a few dimensions; a proposal costs tenths of a second. Needs SciPy and torch.

    Args:
        startup: Random points before it begins to learn, at least 1.
        deterministic: Whether the objective returns the same value for the same point, so that no noise is assumed.
    """

    def __init__(self, *, startup: Annotated[int, Ge(1)] = 10, deterministic: bool = False) -> None:
        self.startup, self.deterministic = startup, deterministic

    def sampler(self, space: Space, *, seed: int, trials: int) -> BaseSampler:
        """Return the sampler of a study; see `Search.sampler`."""
        load_optuna("GP search")
        from deepseek.search.samplers import TrialSampler, fresh

        return TrialSampler(space, seed, fresh(space, seed, self.optuna_sampler))

    def optuna_sampler(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler of this kind, for one trial.

        Raises:
            MissingExtraError: SciPy or torch is not installed.
        """
        for library in ("scipy", "torch"):
            require(library, "GP search")
        from optuna.samplers import GPSampler

        return GPSampler(n_startup_trials=self.startup, deterministic_objective=self.deterministic, seed=seed)


def _stride(total: int) -> int:
    """Return the whole number nearest to the golden section of `total` that has no divisor in common with it."""
    golden = round(total * (math.sqrt(5) - 1) / 2)
    near = (golden + sign * distance for distance in itertools.count() for sign in (1, -1))
    return next(stride for stride in near if stride > 0 and math.gcd(stride, total) == 1)
