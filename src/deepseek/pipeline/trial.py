"""One trial of a search: a training whose test rows stay closed."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deepseek import progress
from deepseek.artifacts import Bundle, RunFolder, StageCache, read_json, replace_folder, sha256_json, write_bundle, write_json
from deepseek.data.prepared import PreparedDataset
from deepseek.distributed import RankContext
from deepseek.errors import RunError
from deepseek.inference.backends.torch import TorchBackend
from deepseek.pipeline.fitting import MEASURED_FOR_SPEED, measure
from deepseek.pipeline.preparing.dataset import Dataset, make_dataset
from deepseek.pipeline.run import follow
from deepseek.recipe import AUTO, Recipe, load_recipe
from deepseek.recipe.document import Key
from deepseek.recipe.load import keep_recipe
from deepseek.training.callbacks.trial import PRUNED
from deepseek.training.state import seed_of
from deepseek.tuning import TrialRow, trial_recipe
from deepseek.tuning.folder import TuneFolder


@dataclass
class TrialRunner:
    """Runs trials of one search, one after another; their data are prepared once.

    Attributes:
        recipe: The recipe that is tuned.
        folder: The search's folder.
        cache: Where stages of the data are kept.
        metric: The validation metric that counts.
    """

    recipe: Recipe
    folder: TuneFolder
    cache: StageCache
    metric: str
    _datasets: dict[str, Dataset] = field(default_factory=dict)

    def run(
        self, number: int, parameters: Mapping[str, Any], *, place: int | None = None, report: Mapping[str, Any] | None = None
    ) -> TrialRow:
        """Train with the parameters of a trial and return its row, `complete` or `pruned`.

        Args:
            number: The trial's number; 0 for the recipe as it is.
            parameters: Values by path.
            place: The number that it would have had if no worker had been lost; where not given, its number.
            report: The spec of the callback that reports to the study, where the trial may be given up.

        Raises:
            DeepSeekError: The trial failed, or its metric came to no finite number.
        """
        began = time.perf_counter()
        recipe = self._recipe(number if place is None else place, parameters)
        run = RunFolder(self.folder.trial(number))
        shutil.rmtree(run.path, ignore_errors=True)  # of a worker that died in the midst of it
        run.path.mkdir(parents=True)
        keep_recipe(recipe, run.recipe, text=recipe.to_yaml())
        with progress.hushed():
            follow(recipe, self.dataset(recipe), run, began=began, measured=("validation",), callbacks=[report] if report else [])
        outcome = read_json(run.metrics)
        pruned = outcome["stopped_reason"] == PRUNED
        value = _last_value(run, self.metric) if pruned else outcome["metrics"]["validation"][self.metric]
        if not pruned and (value is None or not math.isfinite(value)):
            raise RunError(
                f"{self.metric} is {value} on the validation rows, and trials are compared by it",
                hint="give validation rows on which it can be told (of both classes, for auc), or another tune.metric",
            )
        return TrialRow(
            number=number,
            state="pruned" if pruned else "complete",
            value=value,
            parameters=dict(parameters),
            seconds=round(time.perf_counter() - began, 3),
            steps=outcome["steps"],
        )

    def dataset(self, recipe: Recipe) -> Dataset:
        """Return a recipe's prepared data, made once for all trials that have the same."""
        key = sha256_json({"data": recipe.to_value()["data"], "task": recipe.to_value()["task"], "seed": recipe.seed})
        if key not in self._datasets:
            self._datasets[key] = make_dataset(recipe, self.cache)
        return self._datasets[key]

    def _recipe(self, place: int, parameters: Mapping[str, Any]) -> Recipe:
        recipe = trial_recipe(self.recipe, parameters, trial=place)
        assert self.recipe.tune is not None
        decisions: dict[str | Key, tuple[Any, str]] = {}
        if place and self.recipe.tune.vary_seed and "train.seed" not in parameters:
            decisions["train.seed"] = (seed_of(recipe.seed, place), "every trial has its own")
        first = RunFolder(self.folder.trial(0)).decisions
        if place and first.is_file():
            measured = read_json(first)["measured"]
            open_keys = [key for key in MEASURED_FOR_SPEED if getattr(recipe.train, key) == AUTO]
            decisions |= {f"train.{key}": (measured[key], "measured in trial 0") for key in open_keys}
        return recipe.with_decisions(decisions)


def best_recipe(run: RunFolder, home: Recipe) -> Recipe:
    """Return a whole recipe that repeats a trial bit for bit: what was decided and measured in it is written out."""
    recipe = load_recipe(run.resolved, folder=home.folder)
    measured = read_json(run.decisions)["measured"]
    reason = "as in the best trial"
    decisions: dict[str | Key, tuple[Any, str]] = {
        f"train.{key}": (measured[key], reason) for key in (*MEASURED_FOR_SPEED, "batch_size") if key in measured
    }
    if measured.get("step_limit"):  # a time limit became a number of steps, by the speed that was measured
        steps = min(int(measured["step_limit"]), recipe.train.max_steps or 1 << 62)
        decisions |= {"train.max_steps": (steps, reason)}
        if not read_json(run.metrics)["stopped_reason"].startswith("time limit"):
            decisions["train.time_limit"] = (None, reason)
    return recipe.with_decisions(decisions)


def measure_on_test(run: RunFolder, dataset: Dataset) -> dict[str, Any]:
    """Measure a trial's model on the test rows, once, and write that into its bundle and its metrics.

    Returns:
        The metrics by split.
    """
    outcome = read_json(run.metrics)
    metrics: dict[str, Any] = outcome["metrics"]
    if "test" in metrics:
        return metrics
    bundle = Bundle.open(run.bundle)
    model = TorchBackend(bundle).model
    rows: PreparedDataset | None = dataset.open("test")
    metrics["test"] = None if rows is None else measure(model, rows, RankContext())
    whole = run.path / "bundle.whole"
    shutil.rmtree(whole, ignore_errors=True)
    documents = {name: bundle.read(name) for name in bundle.manifest["files"] if name.endswith(".json")}
    with write_bundle(whole, {**documents, "metrics.json": metrics}, plugins=bundle.manifest["plugins"]) as fresh:
        shutil.copy2(bundle.file("weights.safetensors"), fresh / "weights.safetensors")
    replace_folder(whole, run.bundle)
    write_json(run.metrics, {**outcome, "metrics": metrics})
    return metrics


def tidy(folder: TuneFolder, rows: list[TrialRow], best: TrialRow | None, *, keep: str) -> None:
    """Take away what is not to stay of the trials that are not the best.

    Args:
        folder: The search's folder.
        rows: The trials that have ended.
        best: The best of them.
        keep: `nothing`, `metrics` (all but weights) or `everything`.
    """
    for row in rows if keep != "everything" else ():
        run = RunFolder(folder.trial(row.number))
        gone = [run.checkpoints] if best is not None and row.number == best.number else [run.checkpoints, run.bundle]
        if keep == "nothing" and (best is None or row.number != best.number) and row.number:
            gone = [run.path]
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)


def _last_value(run: RunFolder, metric: str) -> float | None:
    lines = [json.loads(line) for line in run.events.read_text(encoding="utf-8").splitlines()]
    values = [line["metrics"][metric] for line in lines if line["event"] == "validation"]
    return float(values[-1]) if values else None
