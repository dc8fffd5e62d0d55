"""What a report says of weighted rows is what scikit-learn says with `sample_weight`, and whole numbers count rows."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from deepseek.data.targets import TargetSpec
from deepseek.pipeline.analysis.predictions import Predictions
from deepseek.pipeline.analysis.quality import class_facts, label_facts, value_facts

RANDOM = np.random.default_rng(0)
ROWS = 700
WEIGHT = torch.from_numpy(RANDOM.exponential(1.0, ROWS).astype(np.float32))


def predicted(decoded, target, *, weight=WEIGHT):
    tensors = {name: torch.from_numpy(np.asarray(values, dtype=np.float32)) for name, values in decoded.items()}
    unused = np.zeros(ROWS)
    return Predictions("test", ROWS, np.arange(ROWS), tensors, torch.from_numpy(target), unused, unused, weight, {})


def spec(kind, **changes):
    return TargetSpec(kind, **{"columns": ("y",), **changes})


def of_two_classes():
    truth = (RANDOM.random(ROWS) < 0.4).astype(np.float32)
    score = np.clip(RANDOM.normal(0.4 + 0.2 * truth, 0.2), 0.01, 0.99).astype(np.float32)
    return score, truth, spec("binary", classes=("no", "yes"))


def test_of_two_classes_everything_is_weighted():
    score, truth, two = of_two_classes()
    facts = class_facts(two, predicted({"probability": np.column_stack([1 - score, score])}, truth))
    called, weight = score > 0.5, WEIGHT.numpy()
    assert facts.roc[0].area == pytest.approx(metrics.roc_auc_score(truth, score, sample_weight=weight))
    assert facts.precision_recall[0].area == pytest.approx(metrics.average_precision_score(truth, score, sample_weight=weight))
    assert facts.brier == pytest.approx(metrics.brier_score_loss(truth, score, sample_weight=weight))
    assert facts.base_rate == pytest.approx(np.average(truth, weights=weight))
    np.testing.assert_array_equal(facts.confusion, metrics.confusion_matrix(truth, called))
    np.testing.assert_allclose(facts.weighed, metrics.confusion_matrix(truth, called, sample_weight=weight))
    assert facts.thresholds[4].f1 == pytest.approx(metrics.f1_score(truth, score >= 0.5, sample_weight=weight))
    assert sum(facts.scores.counts["yes"]) == pytest.approx(weight @ truth)


def test_without_weights_rows_count_alike():
    score, truth, two = of_two_classes()
    facts = class_facts(two, predicted({"probability": np.column_stack([1 - score, score])}, truth, weight=None))
    assert facts.weighed == facts.confusion
    assert facts.roc[0].area == pytest.approx(metrics.roc_auc_score(truth, score))
    assert facts.brier == pytest.approx(metrics.brier_score_loss(truth, score))


def test_of_three_classes_the_confusion_and_the_brier_score_are_weighted():
    truth = RANDOM.integers(0, 3, ROWS)
    probability = RANDOM.dirichlet([1, 1, 1], ROWS) * 0.5 + 0.5 * np.eye(3)[truth] * RANDOM.random((ROWS, 1))
    probability /= probability.sum(axis=1, keepdims=True)
    facts = class_facts(spec("classes", classes=("a", "b", "c")), predicted({"probability": probability}, truth))
    weight = WEIGHT.numpy()
    np.testing.assert_allclose(facts.weighed, metrics.confusion_matrix(truth, probability.argmax(axis=1), sample_weight=weight))
    squares = ((probability - np.eye(3)[truth]) ** 2).sum(axis=1)
    assert facts.brier == pytest.approx(np.average(squares, weights=weight), rel=1e-5)


def test_labels_are_weighted():
    truth = (RANDOM.random((ROWS, 2)) < 0.4).astype(np.float32)
    probability = np.clip(RANDOM.normal(0.4 + 0.2 * truth, 0.2), 0, 1).astype(np.float32)
    found = label_facts(spec("labels", columns=("a", "b"), classes=("a", "b")), predicted({"probability": probability}, truth))
    for n, one in enumerate(found):
        called, weight = probability[:, n] >= 0.5, WEIGHT.numpy()
        assert (one.rows, one.called) == (truth[:, n].sum(), called.sum())
        assert one.precision == pytest.approx(metrics.precision_score(truth[:, n], called, sample_weight=weight))
        assert one.recall == pytest.approx(metrics.recall_score(truth[:, n], called, sample_weight=weight))
        assert one.f1 == pytest.approx(metrics.f1_score(truth[:, n], called, sample_weight=weight))
        assert one.auc == pytest.approx(metrics.roc_auc_score(truth[:, n], probability[:, n], sample_weight=weight))


def test_errors_are_weighted():
    truth = RANDOM.standard_normal(ROWS).astype(np.float32)
    answer = truth + 0.3 * RANDOM.standard_normal(ROWS).astype(np.float32)
    [facts] = value_facts(spec("values", mean=(10.0,), std=(2.0,)), predicted({"standardized": answer[:, None]}, truth))
    rows = np.array_split(np.argsort(truth, kind="stable"), 10)[3]
    error, weight = 2 * (answer - truth).astype(np.float64), WEIGHT.numpy()
    count, size, bias = facts.deciles[3][2:]
    assert count == len(rows)
    assert size == pytest.approx(np.average(np.abs(error[rows]), weights=weight[rows]), rel=1e-5)
    assert bias == pytest.approx(np.average(error[rows], weights=weight[rows]), rel=1e-4, abs=1e-6)
    assert sum(facts.residuals.counts["residual"]) == pytest.approx(weight.sum())
