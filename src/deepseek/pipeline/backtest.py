"""Back-testing: a recipe trained again and again as if it were earlier, each time measured on what came next.

What one test period says of a forecast hangs on that period. Rolling origins ask the same question at several moments: Tashman,
"Out-of-sample tests of forecasting accuracy", 2000, https://doi.org/10.1016/S0169-2070(00)00065-0.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deepseek import progress
from deepseek.artifacts import CACHE, Bundle, RunFolder, StageCache, write_json, write_text
from deepseek.artifacts.numbered import next_numbered
from deepseek.data.windows.dataset import WindowDataset
from deepseek.data.windows.places import TimeSplit
from deepseek.data.windows.preparation import WindowPreparation
from deepseek.data.windows.steps import Steps
from deepseek.errors import InputError
from deepseek.inference.backends.torch import TorchBackend
from deepseek.pipeline.analysis.horizons import horizon_facts
from deepseek.pipeline.choosing.choices import is_forecast
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.pipeline.preparing.windows import time_split
from deepseek.pipeline.ranks import refuse_several_processes
from deepseek.pipeline.recipes import open_recipe
from deepseek.pipeline.run import follow
from deepseek.recipe import Recipe
from deepseek.recipe.load import keep_recipe
from deepseek.reporting.backtest import render
from deepseek.reporting.forecast import ForecastFacts, mean_over

Training = Literal["expanding", "sliding"]
REASON = "a rolling origin"


@dataclass(frozen=True)
class Origin:
    """One moment from which forecasts were made.

    Attributes:
        train_from: The first moment that was trained on.
        test_from: The first moment that was forecast; training and validation end before it.
        until: The first moment behind those that were forecast.
        facts: The errors step by step.
        seconds: How long training and measuring took.
    """

    train_from: str
    test_from: str
    until: str
    facts: ForecastFacts
    seconds: float


@dataclass(frozen=True, repr=False)
class BacktestResult:
    """What a back-test came to; errors are in standard deviations of the recipe's own training period.

    Attributes:
        folder: Its folder: `backtest.json`, `backtest.html`, the recipe, and a run for each origin.
        training: Whether training grew with the origins, or slid along.
        origins: The origins, in order of time.
        whole: The errors step by step over all origins.
    """

    folder: Path
    training: Training
    origins: tuple[Origin, ...]
    whole: ForecastFacts

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "folder": str(self.folder),
            "page": str(self.folder / "backtest.html"),
            "training": self.training,
            "whole": _facts_json(self.whole),
            "origins": [{**asdict(one), "facts": _facts_json(one.facts), "seconds": round(one.seconds, 3)} for one in self.origins],
        }

    def __repr__(self) -> str:
        lines = [f"  {who}: MSE {self.whole.mse(who):.4g}, MAE {self.whole.mae(who):.4g}" for who in self.whole.squared]
        return "\n".join([f"back-test {self.folder}, {len(self.origins)} origins, {self.training} training", *lines])


def backtest(
    recipe: str | PathLike[str] | Mapping[str, Any] | Recipe,
    *,
    origins: int = 4,
    training: Training = "expanding",
    overrides: Sequence[str] = (),
    out: str | PathLike[str] = "runs",
) -> BacktestResult:
    """Train a forecast's recipe at several moments of the past, and measure each on what came next.

    The recipe's test period is cut into as many stretches of equal length as there are origins. Validation is the stretch before each, as
    long as the recipe's own, and training all that lies before that. Each origin standardises by its own training period; the errors of all
    are told in standard deviations of the recipe's, so that they can be compared and averaged.

    Args:
        recipe: A recipe's file, its content as a mapping, or the folder of a run.
        origins: How many, 1 or more.
        training: `expanding`, so that training begins where the recipe's does, or `sliding`, so that it is as long at each origin.
        overrides: Each `PATH=VALUE`.
        out: The folder that holds the runs.

    Raises:
        RecipeError: The recipe is wrong.
        InputError: Several processes were started for it; or it is no forecast, or its test period is too short for so many origins.
        DataError: The data cannot be used.
    """
    refuse_several_processes("a back-test")
    if training not in ("expanding", "sliding"):
        raise InputError(f"training is {training!r}", hint="allowed: expanding, sliding")
    _, checked = open_recipe(recipe, overrides)
    if not is_forecast(checked) or checked.tune is not None:
        raise InputError("only the recipe of a forecast without 'tune' can be back-tested", hint="task: {type: forecasting, horizon: …}")
    cache = StageCache(Path(out) / CACHE)
    periods, unit = _periods(checked, cache, origins=origins, training=training)
    folder = next_numbered(Path(out) / checked.name, "backtest-")
    keep_recipe(checked, folder / "recipe.yaml")
    found: list[Origin] = []
    for number, period in enumerate(periods, 1):
        progress.log(f"origin {number} of {len(periods)}: {period['test_from']}")
        found.append(_at_origin(checked, period, folder / "origins" / f"{number:03d}", cache, unit=unit))
    result = BacktestResult(folder, training, tuple(found), _over_all([one.facts for one in found]))
    write_json(folder / "backtest.json", result.to_json())
    told = [(one.test_from, one.until, one.facts) for one in found]
    write_text(folder / "backtest.html", render(checked.name, told, training=training, whole=result.whole))
    return result


def _periods(
    recipe: Recipe, cache: StageCache, *, origins: int, training: Training
) -> tuple[list[dict[str, str | None]], tuple[float, ...]]:
    """Return `train_from`, `validation_from`, `test_from` and `until` of each origin, as recipes write them, and the errors' units."""
    dataset = make_dataset(recipe, cache)
    preparation, windows = dataset.preparation(), dataset.open("train")
    assert isinstance(preparation, WindowPreparation)
    assert isinstance(windows, WindowDataset)
    grid, arrays, horizon = preparation.grid, windows.steps, preparation.rules.horizon
    steps = Steps(arrays.rows, np.asarray(arrays.numbers), arrays.starts, ((),) * (len(arrays.starts) - 1), grid)
    split: TimeSplit = time_split(recipe)
    parts = split.of_steps(steps)
    spans = {part: (int(steps.numbers[parts == part].min()), int(steps.numbers[parts == part].max()) + 1) for part in np.unique(parts)}
    if 2 not in spans or origins < 1 or (spans[2][1] - spans[2][0]) // origins < horizon:
        most = (spans[2][1] - spans[2][0]) // horizon if 2 in spans else 0
        raise InputError(
            f"{origins} origins were asked for, and the test period holds {most} times the horizon of {horizon} steps",
            hint="ask for fewer origins, or give data.split a longer test period",
        )
    begin, (first, end) = spans[0][0], spans[2]
    validating = spans[1][1] - spans[1][0] if 1 in spans else 0
    cuts = np.linspace(first, end, origins + 1).round().astype(np.int64)

    def moment(number: int) -> str:
        value = grid.as_arrow(grid.moments(np.array([number])))[0].as_py()
        return str(value)

    periods = [
        {
            "train_from": moment(begin + (int(start) - first if training == "sliding" else 0)),
            "validation_from": moment(int(start) - validating) if validating else None,
            "test_from": moment(int(start)),
            "until": moment(int(stop)),
        }
        for start, stop in pairwise(cuts)
    ]
    return periods, preparation.spec.std


def _at_origin(recipe: Recipe, period: Mapping[str, str | None], path: Path, cache: StageCache, *, unit: tuple[float, ...]) -> Origin:
    began = time.perf_counter()
    then = recipe.with_decisions({f"data.split.{key}": (value, REASON) for key, value in period.items()})
    run = RunFolder(path)
    run.path.mkdir(parents=True)
    keep_recipe(then, run.recipe)
    dataset = make_dataset(then, cache)
    follow(then, dataset, run, began=began, measured=("validation", "test"))
    windows, preparation = dataset.open("test"), dataset.preparation()
    assert isinstance(windows, WindowDataset)
    assert isinstance(preparation, WindowPreparation)
    facts = horizon_facts(TorchBackend(Bundle.open(run.bundle)).model, windows, season=preparation.rules.season, unit=unit)
    return Origin(str(period["train_from"]), str(period["test_from"]), str(period["until"]), facts, time.perf_counter() - began)


def _over_all(facts: Sequence[ForecastFacts]) -> ForecastFacts:
    """Return the errors over the values of all origins, each counted once."""
    counts = list(zip(*(one.known for one in facts), strict=True))

    def mean(of: str) -> dict[str, list[float]]:
        return {
            who: [mean_over([getattr(one, of)[who][step] for one in facts], count) for step, count in enumerate(counts)]
            for who in getattr(facts[0], of)
        }

    return ForecastFacts(
        sum(one.windows for one in facts), facts[0].season, [sum(count) for count in counts], mean("squared"), mean("absolute")
    )


def _facts_json(facts: ForecastFacts) -> dict[str, Any]:
    return {**asdict(facts), "mse": {who: facts.mse(who) for who in facts.squared}, "mae": {who: facts.mae(who) for who in facts.absolute}}
