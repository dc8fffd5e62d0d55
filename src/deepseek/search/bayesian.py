"""The short way: a mapping of ranges, an objective of a dictionary, one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from deepseek.registry import Spec
from deepseek.search.space import Space, parse_space
from deepseek.search.study import Direction, Study
from deepseek.search.trial import TrialRecord

PointObjective: TypeAlias = Callable[[dict[str, Any]], float]


@dataclass(frozen=True)
class SearchResult:
    """What a search found; it unpacks into its first two attributes: `best_params, best_value = …`.

    Attributes:
        best_params: The best point, by parameter.
        best_value: What the objective returned there.
        trials: Every trial, in order.
        importance: Each parameter's share in what makes trials good, largest first; empty where the trials do not tell.
    """

    best_params: dict[str, Any]
    best_value: float
    trials: tuple[TrialRecord, ...]
    importance: dict[str, float]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.best_params, self.best_value))

    def __repr__(self) -> str:
        return f"SearchResult(best_value={self.best_value!r}, best_params={self.best_params!r}, {len(self.trials)} trials)"


class BayesianOptimizer:
    """Finds the parameters at which a function is smallest or largest, in few evaluations.

    Each evaluation is chosen in view of those before it: by default with TPE (Bergstra et al., 2011, https://papers.nips.cc/paper/4443),
    which takes choices and noise as they come. A study with pruning, several processes or hand-made trials is a `Study`.

    Args:
        param_space: By name: a tuple `(low, high)` is a range, a list holds choices; see `parse_space`.
        max_evals: How many evaluations there are in all, at least 1.
        seed: Where all randomness begins; the same seed and objective give the same trials.
        search: The way of searching, a component of the family `search`: tpe, gp, hybrid, random, grid.
        storage: Where trials are kept, so that an interrupted search goes on: see `Study`; nothing for memory.
        name: The search's name in its storage.

    Raises:
        InputError: The space or the number of evaluations is wrong.

    Example:
        >>> optimizer = BayesianOptimizer(param_space={"x": (-2.0, 2.0), "shape": ["bowl", "ridge"]}, max_evals=30)
        >>> best_params, best_value = optimizer.minimize(lambda point: point["x"] ** 2 + (point["shape"] == "ridge"))
        >>> best_params["shape"], best_value < 0.1
        ('bowl', True)
    """

    def __init__(
        self,
        param_space: Mapping[str, Any],
        max_evals: int = 50,
        *,
        seed: int = 0,
        search: Spec = "tpe",
        storage: str | Path | None = None,
        name: str = "bayesian_optimizer",
    ) -> None:
        self.space: Space = parse_space(param_space)
        self.max_evals, self.seed, self.search, self.storage, self.name = max_evals, seed, search, storage, name

    def minimize(self, objective: PointObjective) -> SearchResult:
        """Find where a function is smallest.

        Args:
            objective: Takes a dictionary with a value for each parameter and returns a number. One that raises, or returns NaN, is recorded
                with its error, and the search goes on; ten in a row stop it.

        Raises:
            MissingExtraError: Optuna is not installed.
            RunError: Ten evaluations failed one after the other, or all of them did.
        """
        return self._run(objective, "minimize")

    def maximize(self, objective: PointObjective) -> SearchResult:
        """Find where a function is largest; otherwise like `minimize`."""
        return self._run(objective, "maximize")

    def _run(self, objective: PointObjective, direction: Direction) -> SearchResult:
        with Study(
            self.space,
            trials=self.max_evals,
            direction=direction,
            search=self.search,
            seed=self.seed,
            storage=self.storage,
            name=self.name,
        ) as study:
            best = study.run(lambda trial: objective(dict(trial.parameters)))
            assert best.value is not None
            rows = tuple(study.trials)
            tells = len({row.value for row in rows if row.state == "complete"}) > 1
            return SearchResult(best.parameters, best.value, rows, study.importance() if tells else {})
