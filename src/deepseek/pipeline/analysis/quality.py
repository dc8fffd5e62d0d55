"""What a model's predictions for rows with known truth are worth: confusion, curves, calibration, errors.

Every share, mean and area is weighted where the rows have weights, as the metrics of the run are; whole numbers count rows.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from deepseek.data.targets import TargetSpec
from deepseek.pipeline.analysis.predictions import Predictions
from deepseek.reporting.facts import ClassFacts, LabelFact, Points, Spread, ValueFacts
from deepseek.statistics.curves import (
    average_precision,
    calibration_bins,
    calibration_error,
    precision_recall_curve,
    roc_curve,
    threshold_table,
)
from deepseek.tasks.metrics import exact_auc

SHOWN_POINTS = 20_000
_THRESHOLDS = np.linspace(0.1, 0.9, 9)


def class_facts(spec: TargetSpec, predictions: Predictions) -> ClassFacts:
    """Return confusion and calibration and, for two classes, the curves over all thresholds."""
    probability, truth = predictions.decoded["probability"].numpy(), predictions.target.numpy().astype(np.int64)
    answer, size, weight = probability.argmax(axis=1), len(spec.classes), predictions.row_weights
    confusion, weighed = (np.bincount(truth * size + answer, given, minlength=size * size).reshape(size, size) for given in (None, weight))
    binary = spec.kind == "binary"
    sure = probability[:, 1] if binary else probability.max(axis=1)
    right = truth == 1 if binary else truth == answer
    bins = calibration_bins(sure, right, weight=weight)
    brier = _mean((sure.astype(np.float64) - right) ** 2 if binary else _brier(probability, truth), weight)
    facts = ClassFacts(spec.classes, confusion.tolist(), weighed.tolist(), bins, calibration_error(bins), brier)
    return _with_curves(facts, spec, sure, right, weight) if binary else facts


def label_facts(spec: TargetSpec, predictions: Predictions) -> list[LabelFact]:
    """Return how right each label is."""
    probability, truth = predictions.decoded["probability"].numpy(), predictions.target.numpy() >= 0.5
    weight = predictions.row_weights
    return [_label(name, probability[:, n], truth[:, n], weight) for n, name in enumerate(spec.classes)]


def value_facts(spec: TargetSpec, predictions: Predictions) -> list[ValueFacts]:
    """Return for each target true and predicted values in the target's units, residuals, and the error by tenths of the true value."""
    truth, answer = true_values(spec, predictions)
    weight = predictions.row_weights
    return [_values(name, truth[:, n], answer[:, n], weight) for n, name in enumerate(spec.columns)]


def true_values(spec: TargetSpec, predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted numbers in the target's units, float64 `[n, targets]`."""
    mean, std = np.array(spec.mean), np.array(spec.std)
    answers = next(iter(predictions.decoded.values())).numpy().astype(np.float64)
    target = predictions.target.numpy().astype(np.float64).reshape(len(predictions), -1)
    return target * std + mean, answers.reshape(len(predictions), -1) * std + mean


def row_errors(spec: TargetSpec, predictions: Predictions) -> tuple[np.ndarray, str]:
    """Return one error a row, larger for worse, and what it is."""
    if spec.kind == "values":
        truth, answer = true_values(spec, predictions)
        if len(spec.columns) == 1:
            return np.abs(answer - truth)[:, 0], "mean absolute error"
        return np.abs((answer - truth) / np.array(spec.std)).mean(axis=1), "mean absolute error, in standard deviations of each target"
    probability = predictions.decoded["probability"].numpy()
    if spec.kind == "labels":
        return ((probability >= 0.5) != (predictions.target.numpy() >= 0.5)).mean(axis=1), "share of wrong labels"
    return (probability.argmax(axis=1) != predictions.target.numpy().astype(np.int64)).astype(np.float64), "share of wrong answers"


def _with_curves(facts: ClassFacts, spec: TargetSpec, score: np.ndarray, truth: np.ndarray, weight: np.ndarray | None) -> ClassFacts:
    roc, recall = roc_curve(score, truth, weight=weight), precision_recall_curve(score, truth, weight=weight)
    edges = np.linspace(0, 1, 31)
    counts = {}
    for n, name in enumerate(spec.classes):
        rows = truth == bool(n)
        counts[name] = np.histogram(score[rows], edges, weights=None if weight is None else weight[rows])[0].tolist()
    area = exact_auc(score, truth, weight)
    return replace(
        facts,
        roc=[Points(f"AUC {area:.4f}", roc.x.tolist(), roc.y.tolist(), area)],
        precision_recall=[Points("precision", recall.x.tolist(), recall.y.tolist(), average_precision(score, truth, weight=weight))],
        thresholds=threshold_table(score, truth, _THRESHOLDS, weight=weight),
        base_rate=_mean(truth, weight),
        scores=Spread(edges.tolist(), counts),
    )


def _brier(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return each row's squared distance over all classes."""
    squared = (probability.astype(np.float64) ** 2).sum(axis=1)
    true = probability[np.arange(len(truth)), truth].astype(np.float64)
    return np.asarray(squared - 2 * true + 1)


def _label(name: str, probability: np.ndarray, truth: np.ndarray, weight: np.ndarray | None) -> LabelFact:
    [at_half] = threshold_table(probability, truth, np.array([0.5]), weight=weight)
    auc = exact_auc(probability, truth, weight)
    return LabelFact(name, int(truth.sum()), at_half.positives, at_half.precision, at_half.recall, at_half.f1, auc)


def _values(name: str, truth: np.ndarray, answer: np.ndarray, weight: np.ndarray | None) -> ValueFacts:
    residual = answer - truth
    known = np.isfinite(residual)
    low, high = np.quantile(residual[known], [0.001, 0.999]) if known.any() else (0.0, 1.0)
    edges = np.linspace(low, high, 41) if high > low else np.array([low - 0.5, low + 0.5])
    weights = None if weight is None else weight[known]
    counts = np.histogram(np.clip(residual[known], edges[0], edges[-1]), edges, weights=weights)[0]
    step = max(1, math.ceil(len(truth) / SHOWN_POINTS))
    return ValueFacts(
        name,
        truth[::step].tolist(),
        answer[::step].tolist(),
        Spread(edges.tolist(), {"residual": counts.tolist()}),
        _deciles(truth, residual, weight),
    )


def _deciles(truth: np.ndarray, residual: np.ndarray, weight: np.ndarray | None) -> list[tuple[float, float, int, float, float]]:
    """Return for each tenth of the rows by true value: from, to, rows, mean absolute error, mean error."""
    order = np.argsort(truth, kind="stable")
    parts = [part for part in np.array_split(order, 10) if len(part)]
    made = []
    for rows in parts:
        weights = None if weight is None else weight[rows]
        error, bias = _mean(np.abs(residual[rows]), weights), _mean(residual[rows], weights)
        made.append((float(truth[rows[0]]), float(truth[rows[-1]]), len(rows), error, bias))
    return made


def _mean(values: np.ndarray, weight: np.ndarray | None) -> float:
    """Return the weighted mean; NaN where there is no row, or none weighs anything."""
    weights = np.ones(len(values)) if weight is None else weight
    total = float(weights.sum())
    return float(weights @ values) / total if total else math.nan
