"""The gate: a new model has to be better than the old one, surely, on labelled rows that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.monitoring.outcomes import HIGHER, POINTS, Outcomes, Target, labels_of, outcomes_of, predictions_of
from deepseek.statistics.intervals import mean_bound
from deepseek.statistics.paired import auc_difference, auc_gain_bound, mcnemar

LEAST_OF_A_CLASS = 10
"""With fewer rows of the rarer class an area under the curve says nothing that a model could pass by."""


@dataclass(frozen=True)
class Verdict:
    """Whether a model may go on, and why.

    Attributes:
        passed: Whether it is better, surely and by enough.
        why: In words.
        metric: What was compared.
        rows: On how many rows.
        champion: What the old model reaches on them; nothing where the rows cannot tell.
        candidate: What the new one reaches, likewise.
        gain: What the new one is better by, in the metric's unit; below 0 where it is worse. Nothing where the rows cannot tell.
        low: The lower end of the gain: it lies below with a probability of at most `alpha`.
        p: The probability of so large a gain where both are equally good, by the metric's own test; nothing where it has none.
    """

    passed: bool
    why: str
    metric: str
    rows: int
    champion: float | None
    candidate: float | None
    gain: float | None
    low: float | None
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


def truth_of(table: pa.Table, target: Target) -> list[Any]:
    """Return the labels of rows as plain values.

    Args:
        table: The rows, with their target.
        target: What is predicted.
    """
    if len(target.columns) > 1:
        return [list(row) for row in zip(*(table.column(name).to_pylist() for name in target.columns), strict=True)]
    return labels_of(table.column(target.columns[0]), target)


def judge(champion: Answered, candidate: Answered, labels: Sequence[Any], *, metric: str, min_gain: float, alpha: float) -> Verdict:
    """Compare two models on the same rows: by how much the new one is better but for a probability of `alpha`.

    A model that is no better passes with a probability of at most `alpha`, also where it makes rare and grave mistakes of which there is
    none among the rows: the bound reckons with one more row that speaks against it as much as one can. For accuracy McNemar's exact test
    has to be sure as well. A label that one of the models does not know is a wrong answer of that model's for accuracy; for
    other metrics such rows have no value and are left out.

    Args:
        champion: The old model's answers.
        candidate: The new one's.
        labels: The truth as plain values, each known.
        metric: One of the metrics that are watched.
        min_gain: What the new model must be better by: of accuracy and AUC in their unit, of a loss as a share of the old model's.
        alpha: In (0, 0.5).

    Returns:
        The verdict. It has not passed, and has no gain, where the rows cannot tell: none has a label that both models know, or, for the
        area under the curve, the rarer class has fewer than 10.
    """
    if metric == "accuracy" and champion.target.kind in {"binary", "classes"}:
        right = [_right(side, labels) for side in (champion, candidate)]
        return _of_shares(right[0], right[1], min_gain=min_gain, alpha=alpha)
    known = np.flatnonzero(_known(champion.target, labels) & _known(candidate.target, labels))
    if not len(known):
        return _untold(metric, 0, f"none of {len(labels):,} rows has a label that both models know")
    one, two = (_outcomes(side, labels, known) for side in (champion, candidate))
    values = one.value(metric), two.value(metric)
    if metric == "auc":
        rarer = int(min(two.truth.sum(), (~two.truth).sum()))
        if rarer < LEAST_OF_A_CLASS:
            return _untold(metric, len(two), f"{rarer:,} of {len(two):,} rows are of the rarer class; {LEAST_OF_A_CLASS} are asked for")
        interval, p = auc_difference(two.score, one.score, two.truth)
        low = auc_gain_bound(two.score, one.score, two.truth, alpha=alpha)
        return _verdict(metric, values, low, rows=len(two), needed=min_gain, p=p / 2 if interval.value > 0 else 1.0)
    gains = (two.rows[metric] - one.rows[metric]) * (1.0 if HIGHER[metric] else -1.0)
    low = mean_bound(gains, worst=_worst(champion, candidate, [labels[place] for place in known.tolist()], metric), alpha=alpha)
    needed = min_gain if metric in POINTS else min_gain * abs(values[0])
    return _verdict(metric, values, low, rows=len(two), needed=needed, p=None)


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
    low = mean_bound(two.astype(np.float64) - one, worst=-1.0, alpha=alpha)
    p = mcnemar(one, two).p / 2 if two.sum() > one.sum() else 1.0
    verdict = _verdict("accuracy", (float(one.mean()), float(two.mean())), low, rows=len(one), needed=min_gain, p=p)
    if verdict.passed and p >= alpha:  # exact, where the bound has its draws' chance
        return replace(verdict, passed=False, why=f"{verdict.why}, but not surely (p {p:.2g}, alpha {alpha:g})")
    return verdict


def _worst(champion: Answered, candidate: Answered, labels: Sequence[Any], metric: str) -> float:
    """Return the gain on the worst row that may come.

    There the new model is wrong where it is surest, or at its farthest from the truth, and the old model is as right as it ever is.
    """
    if metric == "accuracy":
        return -1.0
    if metric == "log_loss":
        shared = [name for name in champion.target.classes if name in candidate.target.classes]
        least, most = min(_losses_of(champion, name).min() for name in shared), max(_losses_of(candidate, name).max() for name in shared)
        return float(least - most)
    said, _ = predictions_of(candidate.answers, candidate.target)
    new, truth = (np.array(values, dtype=np.float64).reshape(len(values), -1) for values in (said, labels))
    far = np.maximum(truth.max(axis=0) - new.min(axis=0), new.max(axis=0) - truth.min(axis=0))
    return -float((far**2 if metric == "mse" else far).mean())


def _losses_of(side: Answered, name: str) -> np.ndarray:
    """Return what each answer would lose if its label were this."""
    return _outcomes(side, [name] * side.answers.num_rows).rows["log_loss"]


def _untold(metric: str, rows: int, why: str) -> Verdict:
    return Verdict(False, f"{metric}: not surely better: {why}", metric, rows, None, None, None, None, None)


def _verdict(metric: str, values: tuple[float, float], low: float, *, rows: int, needed: float, p: float | None) -> Verdict:
    gain = (values[1] - values[0]) * (1.0 if HIGHER[metric] else -1.0)
    sure = f"surely by {low:.4g}" if low > 0 else "not surely"
    what = f"{metric} {values[1]:.4f} against {values[0]:.4f} on {rows:,} rows that it never saw"
    asked = f"; {needed:.4g} are asked for" if needed else ""
    why = f"{what}: better by {gain:.4g}, {sure}{asked}" if gain > 0 else f"{what}: no better"
    return Verdict(low > needed, why, metric, rows, values[0], values[1], gain, low, p)


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
