"""Two runs on the same rows: what one is better by, and whether that can be told from chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.data.windows.dataset import WindowDataset
from deepseek.errors import DeepSeekError
from deepseek.pipeline.analysis.finished import FinishedRun
from deepseek.pipeline.analysis.predictions import Predictions, predict_split
from deepseek.pipeline.analysis.quality import true_values
from deepseek.pipeline.preparing.dataset import Dataset
from deepseek.pipeline.run import data_identity
from deepseek.statistics.intervals import Interval, bootstrap, draws_for
from deepseek.statistics.paired import auc_difference, mcnemar

LEAST_ROWS = 20
LEAST_PROBABILITY = 1e-7
"""Below it a probability counts as this much: one certain and wrong answer would else make a mean of logarithms infinite."""


@dataclass(frozen=True)
class RunPredictions:
    """A run's answers to its test rows.

    Attributes:
        rows: What the rows are: the version of the table, and each row's number in it.
        spec: The target.
        predictions: The answers.
        weighted_by: The column that says what a row weighs, where there is one.
        truth: The target in its own words, so that two runs can be seen to have the same: classes by name, values in their units.
    """

    rows: tuple[str, np.ndarray]
    spec: TargetSpec
    predictions: Predictions
    weighted_by: str | None
    truth: np.ndarray


def predict_test_rows(run: FinishedRun) -> RunPredictions | str:
    """Put a run's test rows to its model again, or say why that cannot be."""
    try:
        dataset = run.dataset()
        data = dataset.open("test")
        model = run.model()
    except DeepSeekError as error:
        return f"its rows or its model cannot be read: {error.message}"
    if data is None:
        return "it has no test rows"
    if isinstance(data, WindowDataset):
        return "its windows overlap, and intervals made of them would be too narrow; see deepseek backtest"
    if data_identity(dataset.folder) != run.data.get("identity"):
        return "its data changed since it was trained"
    if not model.task.target.is_plain:
        return f"a row's target is no single answer ({model.task.target.kind}), so rows cannot be compared one by one"
    predictions = predict_split(model, data, "test", rows=len(data))
    if not predictions.is_whole:
        return "it has too many rows and classes to be asked again"
    spec = model.task.target
    return RunPredictions(_rows_of(dataset, data), spec, predictions, dataset.preparation().weight, _truth(spec, predictions))


def rows_mismatch(one: RunPredictions, two: RunPredictions) -> str | None:
    """Say why two runs were not tested on the same rows with the same target; nothing where they were."""
    if one.spec.kind != two.spec.kind or one.spec.columns != two.spec.columns or one.spec.classes != two.spec.classes:
        return "they do not predict the same"
    if one.rows[0] != two.rows[0]:
        return "their test rows come from different data"
    if not np.array_equal(one.rows[1], two.rows[1]):
        return "their test rows are not the same rows"
    same = np.allclose(one.truth, two.truth, rtol=1e-4, atol=1e-6) if one.spec.kind == "values" else np.array_equal(one.truth, two.truth)
    return None if same else "the target of the same rows differs"


def compare_paired(one: RunPredictions, two: RunPredictions, *, level: float = 0.95) -> dict[str, Any]:
    """Return what the first run is better or worse by, metric by metric, on the same rows.

    Means over rows by the paired bootstrap, the area under the curve by DeLong's method, right answers also by McNemar's test. Where both
    runs weigh the rows alike, all of it is weighted, and McNemar's test, which knows no weights, is left out. Where they do not, rows
    count alike, and `weights` says so.

    Args:
        one: The first run's answers.
        two: The second's, to the same rows.
        level: How often such an interval holds the true difference.

    Returns:
        Plain JSON values: `rows`, `level`, `weights` (in words), `metrics`, and `refused` where nothing can be told.
    """
    weight, words = _weights(one, two)
    found: dict[str, Any] = {"rows": len(one.predictions), "level": level, "weights": words, "metrics": []}
    if len(one.predictions) < LEAST_ROWS:
        return found | {"refused": f"{len(one.predictions)} rows are too few to tell anything"}
    if weight is not None and np.count_nonzero(weight) < LEAST_ROWS:
        return found | {"refused": f"{np.count_nonzero(weight)} rows that weigh anything are too few to tell anything"}
    means = _Means(weight, level)
    if one.spec.kind == "values":
        squares, sizes = (np.column_stack([_errors(side, power) for side in (one, two)]) for power in (2, 1))
        metrics = [_metric("rmse", means(squares, _root_difference), higher_is_better=False)]
        metrics += [_metric("mae", means(sizes, _difference), higher_is_better=False)]
    elif one.spec.kind == "labels":
        wrong = np.column_stack([(_probability(side) >= 0.5) != (_target(side) >= 0.5) for side in (one, two)])
        shares = np.column_stack([part.mean(axis=1) for part in np.hsplit(wrong.astype(np.float64), 2)])
        metrics = [_metric("share of wrong labels", means(shares, _difference), higher_is_better=False)]
    else:
        metrics = _of_classes(one, two, weight, means)
    return found | {"metrics": metrics}


class _Means:
    """Intervals of what is computed from (weighted) means over rows, by the bootstrap: a row is drawn together with its weight."""

    def __init__(self, weight: np.ndarray | None, level: float) -> None:
        self._weight, self.level = weight, level

    def __call__(self, rows: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> Interval:
        """Return the interval of a statistic of the means of rows `[n, k]`."""
        draws = draws_for((1 - self.level) / 2)
        if self._weight is None:
            return bootstrap(rows, statistic, draws=draws, level=self.level)
        weighed = np.column_stack([rows * self._weight[:, None], self._weight])
        return bootstrap(weighed, lambda means: statistic(means[:, :-1] / means[:, -1:]), draws=draws, level=self.level)


def _of_classes(one: RunPredictions, two: RunPredictions, weight: np.ndarray | None, means: _Means) -> list[dict[str, Any]]:
    right = [_probability(side).argmax(axis=1) == side.truth for side in (one, two)]
    accuracy = means(np.column_stack(right).astype(np.float64), _difference)
    if weight is None:
        test = mcnemar(*right)
        metrics = [_metric("accuracy", accuracy, higher_is_better=True, p=test.p, level=means.level) | {"mcnemar": asdict(test)}]
    else:
        metrics = [_metric("accuracy", accuracy, higher_is_better=True)]
    told = one.truth if weight is None else one.truth[weight > 0]
    if one.spec.kind == "binary" and min(np.bincount(told.astype(np.int64), minlength=2)) >= 2:
        first, second = (_probability(side)[:, 1] for side in (one, two))
        area, p = auc_difference(first, second, one.truth == 1, level=means.level, weight=weight)
        metrics.append(_metric("auc", area, higher_is_better=True, p=p))
    losses = np.column_stack([_log_losses(side) for side in (one, two)])
    return [*metrics, _metric("log_loss", means(losses, _difference), higher_is_better=False)]


def _weights(one: RunPredictions, two: RunPredictions) -> tuple[np.ndarray | None, str | None]:
    """Return what the rows weigh, scaled to a mean of 1, and in words what weighs them; nothing of either where they weigh nothing."""
    columns, given = (one.weighted_by, two.weighted_by), (_scaled(one), _scaled(two))
    if given[0] is None and given[1] is None:
        return None, None
    if given[0] is not None and given[1] is not None and np.allclose(given[0], given[1], rtol=1e-4):
        return given[0], f"weighted by {columns[0]}"
    first, second = (f"by {column}" if column else "not at all" for column in columns)
    return None, f"not weighted, unlike the runs' metrics: the first run weighs rows {first}, the second {second}"


def _scaled(side: RunPredictions) -> np.ndarray | None:
    weight = side.predictions.row_weights
    return weight if weight is None or not weight.any() else weight / weight.mean()


def _metric(name: str, interval: Interval, *, higher_is_better: bool, p: float | None = None, level: float | None = None) -> dict[str, Any]:
    """Return a difference in words; where a test decides (`level`), the interval alone does not."""
    sure = interval.excludes_zero if level is None or p is None else interval.excludes_zero and p < 1 - level
    verdict = "not distinguishable"
    if sure:
        verdict = "better" if (interval.value > 0) == higher_is_better else "worse"
    return {"metric": name, "difference": interval.value, "low": interval.low, "high": interval.high, "p": p, "verdict": verdict}


def _rows_of(dataset: Dataset, data: PreparedDataset) -> tuple[str, np.ndarray]:
    sources = dataset.document["sources"]
    table = sources.get("test", sources["source"])
    return str([file["sha256"] for file in table["files"]] or table["fingerprint"]), data.source_numbers()


def _truth(spec: TargetSpec, predictions: Predictions) -> np.ndarray:
    if spec.kind == "values":
        return true_values(spec, predictions)[0]
    return predictions.target.numpy() >= 0.5 if spec.kind == "labels" else predictions.target.numpy().astype(np.int64)


def _probability(side: RunPredictions) -> np.ndarray:
    return np.asarray(side.predictions.decoded["probability"].numpy())


def _target(side: RunPredictions) -> np.ndarray:
    return np.asarray(side.predictions.target.numpy())


def _log_losses(side: RunPredictions) -> np.ndarray:
    chosen = _probability(side)[np.arange(len(side.truth)), side.truth].astype(np.float64)
    return np.asarray(-np.log(np.maximum(chosen, LEAST_PROBABILITY)))


def _errors(side: RunPredictions, power: int) -> np.ndarray:
    """Return every row's errors to a power, a column for each target."""
    truth, answer = true_values(side.spec, side.predictions)
    return np.asarray(np.abs(answer - truth) ** power)


def _difference(means: np.ndarray) -> np.ndarray:
    """Return what the first half of the means is more than the second, on average over the targets."""
    first, second = np.hsplit(means, 2)
    return np.asarray(first.mean(axis=1) - second.mean(axis=1))


def _root_difference(means: np.ndarray) -> np.ndarray:
    return _difference(np.sqrt(means))
