"""What probabilities are worth: curves over all thresholds, calibration, what each threshold would give.

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
    """Rows of like probability: their mean probability, the share that came true with its 95 % interval, and how many there are."""

    predicted: float
    observed: float
    rows: int
    low: float
    high: float


class ThresholdRow(NamedTuple):
    """What a threshold gives: rows called positive from this probability on, and how right that is."""

    threshold: float
    precision: float
    recall: float
    f1: float
    false_positive_rate: float
    positives: int


def roc_curve(score: np.ndarray, truth: np.ndarray, *, points: int = 200) -> Curve:
    """Return the share of negatives called positive, and the share of positives found, from the highest threshold to the lowest.

    Args:
        score: `[n]`, higher for what is more likely positive.
        truth: bool `[n]`.
        points: The most points returned.

    Returns:
        The curve from (0, 0) to (1, 1); empty where one class has no row.
    """
    found, false = _ranked(score, truth)
    if not len(found) or not found[-1] or not false[-1]:
        return Curve(np.empty(0), np.empty(0))
    curve = Curve(np.concatenate([[0.0], false / false[-1]]), np.concatenate([[0.0], found / found[-1]]))
    return _thinned(curve, points)


def precision_recall_curve(score: np.ndarray, truth: np.ndarray, *, points: int = 200) -> Curve:
    """Return recall and precision from the highest threshold to the lowest; the arguments are those of `roc_curve`."""
    found, false = _ranked(score, truth)
    if not len(found) or not found[-1]:
        return Curve(np.empty(0), np.empty(0))
    return _thinned(Curve(found / found[-1], found / (found + false)), points)


def average_precision(score: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean precision over the steps of recall, as scikit-learn's `average_precision_score`; NaN without a positive row."""
    found, false = _ranked(score, truth)
    if not len(found) or not found[-1]:
        return math.nan
    return float((np.diff(found, prepend=0) / found[-1] * (found / (found + false))).sum())


def calibration_bins(probability: np.ndarray, truth: np.ndarray, *, bins: int = 10) -> list[CalibrationBin]:
    """Return what came true among rows of like probability, in bins of equal width from 0 to 1; bins without rows are left out.

    Args:
        probability: `[n]`, 0 to 1.
        truth: bool `[n]`: whether it came true.
        bins: How many bins.
    """
    known = np.isfinite(probability)
    given, came = probability[known].astype(np.float64), truth[known].astype(np.float64)
    place = np.clip((given * bins).astype(np.int64), 0, bins - 1)
    rows = np.bincount(place, minlength=bins)
    sums, true = np.bincount(place, given, minlength=bins), np.bincount(place, came, minlength=bins)
    made = []
    for n in np.flatnonzero(rows).tolist():
        share = wilson(round(true[n]), int(rows[n]))
        made.append(CalibrationBin(float(sums[n] / rows[n]), share.value, int(rows[n]), share.low, share.high))
    return made


def calibration_error(bins: list[CalibrationBin]) -> float:
    """Return the expected calibration error: the mean distance of what was predicted and what came, by rows (Naeini et al., AAAI 2015)."""
    rows = sum(one.rows for one in bins)
    return sum(one.rows * abs(one.predicted - one.observed) for one in bins) / rows if rows else math.nan


def threshold_table(score: np.ndarray, truth: np.ndarray, thresholds: np.ndarray) -> list[ThresholdRow]:
    """Return precision, recall, F1 and false positive rate at each threshold; a quotient without rows is NaN."""
    rows = []
    positives, negatives = int(truth.sum()), int((~truth).sum())
    for threshold in thresholds:
        called = score >= threshold
        right = int((called & truth).sum())
        total = int(called.sum())
        f1 = 2 * right / (total + positives) if total + positives else math.nan
        rows.append(
            ThresholdRow(float(threshold), _over(right, total), _over(right, positives), f1, _over(total - right, negatives), total)
        )
    return rows


def _ranked(score: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many positives and negatives lie at or above each different score, from the highest on."""
    known = np.isfinite(score)
    order = np.argsort(-score[known], kind="stable")
    ranked, true = score[known][order], truth[known][order].astype(np.int64)
    last = np.flatnonzero(np.diff(ranked, append=-np.inf) != 0) if len(ranked) else np.empty(0, dtype=np.int64)
    found = np.cumsum(true)[last]
    return found, last + 1 - found


def _thinned(curve: Curve, points: int) -> Curve:
    """Return at most so many points, spread over the length of the curve: its steep and its flat parts are kept alike."""
    if len(curve.x) <= points:
        return curve
    length = np.cumsum(np.hypot(np.diff(curve.x, prepend=curve.x[0]), np.diff(curve.y, prepend=curve.y[0])))
    places = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points)).clip(0, len(length) - 1))
    places = np.unique(np.concatenate([[0], places, [len(length) - 1]]))
    return Curve(curve.x[places], curve.y[places])


def _over(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
