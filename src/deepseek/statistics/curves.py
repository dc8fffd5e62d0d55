"""What probabilities are worth: curves over all thresholds, calibration, what each threshold would give.

Where rows have weights, every share is one of weights, as scikit-learn's with `sample_weight`; whole numbers are still counts of rows.

Legend of shapes: `n` rows · `k` classes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from deepseek.statistics.intervals import wilson


class Curve(NamedTuple):
    """Points of a curve."""

    x: np.ndarray
    y: np.ndarray


class CalibrationBin(NamedTuple):
    """Rows of like probability: their mean probability, the share that came true with its 95 % interval, how many, and what they weigh."""

    predicted: float
    observed: float
    rows: int
    low: float
    high: float
    weight: float


class ThresholdRow(NamedTuple):
    """What a threshold gives: rows called positive from this probability on, and how right that is."""

    threshold: float
    precision: float
    recall: float
    f1: float
    false_positive_rate: float
    positives: int


def roc_curve(score: np.ndarray, truth: np.ndarray, *, points: int = 200, weight: np.ndarray | None = None) -> Curve:
    """Return the share of negatives called positive, and the share of positives found, from the highest threshold to the lowest.

    Args:
        score: `[n]`, higher for what is more likely positive.
        truth: bool `[n]`.
        points: The most points returned.
        weight: What each row weighs, `[n]`, not negative; all alike where not given.

    Returns:
        The curve from (0, 0) to (1, 1); empty where one class has no row.
    """
    found, false = _ranked(score, truth, weight)
    if not len(found) or not found[-1] or not false[-1]:
        return Curve(np.empty(0), np.empty(0))
    curve = Curve(np.concatenate([[0.0], false / false[-1]]), np.concatenate([[0.0], found / found[-1]]))
    return _thinned(curve, points)


def precision_recall_curve(score: np.ndarray, truth: np.ndarray, *, points: int = 200, weight: np.ndarray | None = None) -> Curve:
    """Return recall and precision from the highest threshold to the lowest; the arguments are those of `roc_curve`."""
    found, false = _ranked(score, truth, weight)
    if not len(found) or not found[-1]:
        return Curve(np.empty(0), np.empty(0))
    return _thinned(Curve(found / found[-1], found / (found + false)), points)


def average_precision(score: np.ndarray, truth: np.ndarray, *, weight: np.ndarray | None = None) -> float:
    """Return the mean precision over the steps of recall, as scikit-learn's `average_precision_score`; NaN without a positive row."""
    found, false = _ranked(score, truth, weight)
    if not len(found) or not found[-1]:
        return math.nan
    return float((np.diff(found, prepend=0) / found[-1] * (found / (found + false))).sum())


def calibration_bins(
    probability: np.ndarray, truth: np.ndarray, *, bins: int = 10, weight: np.ndarray | None = None
) -> list[CalibrationBin]:
    """Return what came true among rows of like probability, in bins of equal width from 0 to 1; bins without rows are left out.

    Of weighted rows the interval is for as many rows as would, unweighted, tell as much: `(Σw)² / Σw²` (Kish, *Survey Sampling*, 1965).

    Args:
        probability: `[n]`, 0 to 1.
        truth: bool `[n]`: whether it came true.
        bins: How many bins.
        weight: What each row weighs, `[n]`, not negative; all alike where not given.
    """
    weights = _weights(len(probability), weight)
    known = np.isfinite(probability) & (weights > 0)
    given, came, weights = probability[known].astype(np.float64), truth[known].astype(np.float64), weights[known]
    place = np.clip((given * bins).astype(np.int64), 0, bins - 1)
    rows = np.bincount(place, minlength=bins)
    total, squares = np.bincount(place, weights, minlength=bins), np.bincount(place, weights**2, minlength=bins)
    sums, true = np.bincount(place, weights * given, minlength=bins), np.bincount(place, weights * came, minlength=bins)
    made = []
    for n in np.flatnonzero(rows).tolist():
        telling = float(total[n] ** 2 / squares[n])
        share = wilson(float(true[n] / total[n]) * telling, telling)
        made.append(CalibrationBin(float(sums[n] / total[n]), share.value, int(rows[n]), share.low, share.high, float(total[n])))
    return made


def calibration_error(bins: list[CalibrationBin]) -> float:
    """Return the expected calibration error: the mean distance of what was predicted and what came (Naeini et al., AAAI 2015)."""
    total = sum(one.weight for one in bins)
    return sum(one.weight * abs(one.predicted - one.observed) for one in bins) / total if total else math.nan


def threshold_table(
    score: np.ndarray, truth: np.ndarray, thresholds: np.ndarray, *, weight: np.ndarray | None = None
) -> list[ThresholdRow]:
    """Return precision, recall, F1 and false positive rate at each threshold; a quotient without rows is NaN."""
    weights = _weights(len(score), weight)
    positives, negatives = float(weights[truth].sum()), float(weights[~truth].sum())
    rows = []
    for threshold in thresholds:
        called = score >= threshold
        right, wrong = float(weights[called & truth].sum()), float(weights[called & ~truth].sum())
        total = right + wrong
        f1 = _over(2 * right, total + positives)
        rows.append(
            ThresholdRow(float(threshold), _over(right, total), _over(right, positives), f1, _over(wrong, negatives), int(called.sum()))
        )
    return rows


def _ranked(score: np.ndarray, truth: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return what positives and negatives at or above each different score weigh, from the highest on."""
    weights = _weights(len(score), weight)
    known = np.isfinite(score) & (weights > 0)
    order = np.argsort(-score[known], kind="stable")
    ranked, true, weights = score[known][order], truth[known][order].astype(bool), weights[known][order]
    last = np.flatnonzero(np.diff(ranked, append=-np.inf) != 0) if len(ranked) else np.empty(0, dtype=np.int64)
    return np.cumsum(np.where(true, weights, 0.0))[last], np.cumsum(np.where(true, 0.0, weights))[last]


def _weights(rows: int, weight: np.ndarray | None) -> np.ndarray:
    return np.ones(rows) if weight is None else np.asarray(weight, dtype=np.float64)


def _thinned(curve: Curve, points: int) -> Curve:
    """Return at most so many points, spread over the length of the curve: its steep and its flat parts are kept alike."""
    if len(curve.x) <= points:
        return curve
    length = np.cumsum(np.hypot(np.diff(curve.x, prepend=curve.x[0]), np.diff(curve.y, prepend=curve.y[0])))
    places = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points)).clip(0, len(length) - 1))
    places = np.unique(np.concatenate([[0], places, [len(length) - 1]]))
    return Curve(curve.x[places], curve.y[places])


def _over(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
