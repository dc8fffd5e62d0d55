"""The gate: a new model has to be better than the old one, surely, on labelled rows that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.monitoring.outcomes import HIGHER, POINTS, Outcomes, Target, outcomes_of, predictions_of
from deepseek.statistics.intervals import Interval, bootstrap
from deepseek.statistics.paired import auc_difference, mcnemar


@dataclass(frozen=True)
class Verdict:
    """Whether a model may go on, and why.

    Attributes:
        passed: Whether it is better, surely and by enough.
        why: In words.
        metric: What was compared.
        rows: On how many rows.
        champion: What the old model reaches on them.
        candidate: What the new one reaches.
        gain: What the new one is better by, in the metric's unit; below 0 where it is worse.
        low: The lower end of the gain: it lies below with a probability of `alpha`.
        p: The probability of so large a gain where both are equally good, by the metric's own test; nothing where it has none.
    """

    passed: bool
    why: str
    metric: str
    rows: int
    champion: float
    candidate: float
    gain: float
    low: float
    p: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Answered:
    """A model's answers to the rows that it is judged on.

    Attributes:
        target: What it predicts, its classes among it.
        answers: The answers, as `Predictor.predict` returns them.
    """

    target: Target
    answers: pa.Table


def judge(champion: Answered, candidate: Answered, labels: Sequence[Any], *, metric: str, min_gain: float, alpha: float) -> Verdict:
    """Compare two models on the same rows: by McNemar's test and the paired bootstrap, of areas under the curve by DeLong's method.

    The test is one-sided: a model that is no better passes with a probability of at most `alpha`. A label that one of the models does not
    know is a wrong answer of that model's for accuracy; for other metrics such rows have no value and are left out.

    Args:
        champion: The old model's answers.
        candidate: The new one's.
        labels: The truth as plain values, each known.
        metric: One of the metrics that are watched.
        min_gain: What the new model must be better by: of accuracy and AUC in their unit, of a loss as a share of the old model's.
        alpha: In (0, 0.5).
    """
    if metric == "accuracy" and champion.target.kind in {"binary", "classes"}:
        right = [_right(side, labels) for side in (champion, candidate)]
        return _of_shares(right[0], right[1], min_gain=min_gain, alpha=alpha)
    known = np.flatnonzero(_known(champion.target, labels) & _known(candidate.target, labels))
    one, two = (_outcomes(side, labels, known) for side in (champion, candidate))
    values = one.value(metric), two.value(metric)
    if metric == "auc":
        interval, p = auc_difference(two.score, one.score, two.truth, level=1 - 2 * alpha)
        return _verdict(metric, values, interval, rows=len(two), needed=min_gain, p=p / 2 if interval.value > 0 else 1.0)
    sign = 1.0 if HIGHER[metric] else -1.0
    interval = _interval(sign * one.rows[metric], sign * two.rows[metric], alpha)
    needed = min_gain if metric in POINTS else min_gain * abs(values[0])
    return _verdict(metric, values, interval, rows=len(two), needed=needed, p=None)


def goodness(side: Answered, labels: Sequence[Any], metric: str) -> np.ndarray:
    """Return row by row how good answers are, higher for better, float64 `[rows]`: what a change is looked for in.

    An area under the curve has no value of a row; the likelihood of the truth stands for it.
    """
    if metric == "accuracy" and side.target.kind in {"binary", "classes"}:
        return _right(side, labels).astype(np.float64)
    name = "log_loss" if metric == "auc" else metric
    known = _known(side.target, labels)
    found = np.zeros(len(labels))
    values = _outcomes(side, labels, np.flatnonzero(known)).rows[name]
    found[known] = values if HIGHER[name] else -values
    found[~known] = found[known].min() if known.any() else 0.0
    return found


def _of_shares(one: np.ndarray, two: np.ndarray, *, min_gain: float, alpha: float) -> Verdict:
    interval = _interval(one.astype(np.float64), two.astype(np.float64), alpha)
    test = mcnemar(one, two)
    p = test.p / 2 if interval.value > 0 else 1.0
    verdict = _verdict("accuracy", (float(one.mean()), float(two.mean())), interval, rows=len(one), needed=min_gain, p=p)
    if verdict.passed and p >= alpha:  # exact, where the bootstrap of few rows that differ is not
        return Verdict(**{**asdict(verdict), "passed": False, "why": f"{verdict.why}, but not surely (p {p:.2g}, alpha {alpha:g})"})
    return verdict


def _interval(one: np.ndarray, two: np.ndarray, alpha: float) -> Interval:
    return bootstrap((two - one)[:, None], lambda means: means[:, 0], level=1 - 2 * alpha)


def _verdict(metric: str, values: tuple[float, float], interval: Interval, *, rows: int, needed: float, p: float | None) -> Verdict:
    passed = interval.low > needed
    sure = f"surely by {interval.low:.4g}" if interval.low > 0 else "not surely"
    what = f"{metric} {values[1]:.4f} against {values[0]:.4f} on {rows:,} rows that it never saw"
    asked = f"; {needed:.4g} are asked for" if needed else ""
    why = f"{what}: better by {interval.value:.4g}, {sure}{asked}" if interval.value > 0 else f"{what}: no better"
    return Verdict(passed, why, metric, rows, values[0], values[1], interval.value, interval.low, p)


def _outcomes(side: Answered, labels: Sequence[Any], rows: np.ndarray | None = None) -> Outcomes:
    chosen = np.arange(len(labels)) if rows is None else rows
    said, probability = predictions_of(side.answers.take(pa.array(chosen)), side.target)
    found, _ = outcomes_of(side.target, said, probability, labels=[labels[place] for place in chosen.tolist()])
    return found


def _right(side: Answered, labels: Sequence[Any]) -> np.ndarray:
    said, _ = predictions_of(side.answers, side.target)
    return np.array([str(one) == str(label) for one, label in zip(said, labels, strict=True)], dtype=bool)


def _known(target: Target, labels: Sequence[Any]) -> np.ndarray:
    if target.kind not in {"binary", "classes"}:
        return np.ones(len(labels), dtype=bool)
    return np.array([str(label) in target.classes for label in labels], dtype=bool)
