from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from deepseek.components import FAMILIES
from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.errors import InputError
from deepseek.registry import family
from deepseek.tasks.metrics import R2, AreaUnderCurve, MeanLoss, exact_auc

ROWS = 500
BINARY = TargetSpec("binary", ("y",), ("no", "yes"))
CLASSES = TargetSpec("classes", ("y",), ("a", "b", "c", "never"))
LABELS = TargetSpec("labels", ("y",), ("a", "b", "c"))
VALUES = TargetSpec("values", ("x", "z"), mean=(1e6, 0.0), std=(1.0, 2.0))


def case(target):
    random = np.random.default_rng(3)
    weight = random.uniform(0, 2, ROWS).astype(np.float32)
    if target.kind == "binary":
        truth = random.integers(0, 2, ROWS)
        p = 1 / (1 + np.exp(-(random.normal(size=ROWS) + truth)))
        return {"probability": np.stack((1 - p, p), axis=1)}, truth.astype(np.float32), weight
    if target.kind == "classes":
        truth = random.integers(0, 3, ROWS)
        scores = random.normal(size=(ROWS, 4)) + 2 * np.eye(4)[truth] - [0, 0, 0, 9]
        return {"probability": np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)}, truth, weight
    if target.kind == "labels":
        truth = random.integers(0, 2, (ROWS, 3)).astype(np.float32)
        return {"probability": 1 / (1 + np.exp(-(random.normal(size=(ROWS, 3)) + truth)))}, truth, weight
    truth = random.normal(size=(ROWS, 2)).astype(np.float32)
    return {"standardized": truth + random.normal(size=truth.shape) / 2}, truth, weight


def computed(name, target, *, cuts=(), weighted=True):
    decoded, truth, weight = case(target)
    edges = [0, *cuts, ROWS]
    whole = family("metric").build(name, target)
    for start, stop in pairwise(edges):
        part = family("metric").build(name, target)
        rows = slice(start, stop)
        tensors = {key: torch.from_numpy(array[rows].astype(np.float32)) for key, array in decoded.items()}
        part.update(tensors, Batch({}, {"target": torch.from_numpy(truth[rows])}, torch.from_numpy(weight[rows]) if weighted else None))
        whole.merge(part.state)
    return whole.compute()


def one_vs_rest(decoded, truth, weight, classes):
    return np.mean([reference.roc_auc_score(truth == k, decoded[:, k], sample_weight=weight) for k in range(classes)])


REFERENCES = {
    ("accuracy", "binary"): lambda p, y, w: reference.accuracy_score(y, p[:, 1] >= 0.5, sample_weight=w),
    ("balanced_accuracy", "binary"): lambda p, y, w: reference.balanced_accuracy_score(y, p[:, 1] >= 0.5, sample_weight=w),
    ("f1", "binary"): lambda p, y, w: reference.f1_score(y, p[:, 1] >= 0.5, sample_weight=w),
    ("log_loss", "binary"): lambda p, y, w: reference.log_loss(y, p[:, 1], sample_weight=w),
    ("brier", "binary"): lambda p, y, w: reference.brier_score_loss(y, p[:, 1], sample_weight=w),
    ("auc", "binary"): lambda p, y, w: reference.roc_auc_score(y, p[:, 1], sample_weight=w),
    ("accuracy", "classes"): lambda p, y, w: reference.accuracy_score(y, p.argmax(1), sample_weight=w),
    ("balanced_accuracy", "classes"): lambda p, y, w: reference.balanced_accuracy_score(y, p.argmax(1), sample_weight=w),
    ("f1", "classes"): lambda p, y, w: reference.f1_score(y, p.argmax(1), sample_weight=w, average="macro"),
    ("log_loss", "classes"): lambda p, y, w: reference.log_loss(y, p / p.sum(axis=1, keepdims=True), sample_weight=w, labels=[0, 1, 2, 3]),
    ("brier", "classes"): lambda p, y, w: np.average(((p - np.eye(4)[y]) ** 2).sum(axis=1), weights=w),
    ("auc", "classes"): lambda p, y, w: one_vs_rest(p, y, w, 3),
    ("accuracy", "labels"): lambda p, y, w: np.mean([reference.accuracy_score(y[:, k], p[:, k] >= 0.5, sample_weight=w) for k in range(3)]),
    ("f1", "labels"): lambda p, y, w: reference.f1_score(y, p >= 0.5, sample_weight=w, average="macro"),
    ("log_loss", "labels"): lambda p, y, w: np.mean([reference.log_loss(y[:, k], p[:, k], sample_weight=w) for k in range(3)]),
    ("brier", "labels"): lambda p, y, w: np.mean([reference.brier_score_loss(y[:, k], p[:, k], sample_weight=w) for k in range(3)]),
    ("auc", "labels"): lambda p, y, w: reference.roc_auc_score(y, p, sample_weight=w, average="macro"),
    ("rmse", "values"): lambda v, y, w: reference.root_mean_squared_error(y, v, sample_weight=w),
    ("mae", "values"): lambda v, y, w: reference.mean_absolute_error(y, v, sample_weight=w),
    ("r2", "values"): lambda v, y, w: reference.r2_score(y, v, sample_weight=w),
    ("scaled_mse", "values"): lambda v, y, w: reference.mean_squared_error(y / VALUES.std, v / VALUES.std, sample_weight=w),
    ("scaled_mae", "values"): lambda v, y, w: reference.mean_absolute_error(y / VALUES.std, v / VALUES.std, sample_weight=w),
}
OF_FORECASTS = {"mase", "pinball", "coverage"}
"""Compared in `test_forecasting.py`: they say nothing of one value a row."""
TARGETS = {target.kind: target for target in (BINARY, CLASSES, LABELS, VALUES)}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "kind"), REFERENCES)
def test_metrics_are_scikit_learns_whatever_the_parts(name, kind, weighted):
    target = TARGETS[kind]
    decoded, truth, weight = case(target)
    answers = next(iter(decoded.values())).astype(np.float32).astype(np.float64)
    if kind == "values":
        answers, truth = (values.astype(np.float64) * target.std + target.mean for values in (answers, truth))
    wanted = REFERENCES[name, kind](answers, truth, weight if weighted else None)
    tolerance = 1e-3 if name == "auc" else 1e-6
    assert computed(name, target, weighted=weighted) == pytest.approx(wanted, abs=tolerance)
    assert computed(name, target, cuts=(7, 7, 300), weighted=weighted) == pytest.approx(
        computed(name, target, weighted=weighted), rel=1e-12
    )


def test_every_builtin_metric_is_compared():
    plain = {name for name in FAMILIES["metric"][1] if {*family("metric").get(name).kinds} & {*TARGETS}}  # others have tests of their own
    assert {name for name, _ in REFERENCES} | {"loss"} | OF_FORECASTS == plain


def test_binned_area_keeps_apart_scores_near_one():
    # Ablation: bins of the probability itself would put all of these into the last one.
    metric = AreaUnderCurve(BINARY)
    logit = torch.linspace(10, 15, 200)
    target = (torch.arange(200) >= 100).float()
    decoded = {"probability": torch.stack((torch.sigmoid(-logit), torch.sigmoid(logit)), dim=1)}
    metric.update(decoded, Batch({}, {"target": target}))
    assert metric.compute() == 1.0


def test_metrics_without_rows_are_not_a_number():
    for name, kind in REFERENCES:
        assert math.isnan(family("metric").build(name, TARGETS[kind]).compute())


def test_reset_forgets():
    metric = family("metric").build("accuracy", BINARY)
    batch = Batch({}, {"target": torch.ones(2)})
    metric.update({"probability": torch.tensor([[0.9, 0.1], [0.9, 0.1]])}, batch)
    metric.reset()
    metric.update({"probability": torch.tensor([[0.1, 0.9], [0.1, 0.9]])}, batch)
    assert metric.compute() == 1.0


def test_mean_loss_is_fed_the_two_sums():
    metric = MeanLoss(BINARY)
    metric.add(torch.tensor(6.0), torch.tensor(2.0))
    metric.add(torch.tensor(0.0), torch.tensor(1.0))
    assert metric.compute() == 2.0
    assert not metric.higher_is_better


def test_a_metric_refuses_targets_of_another_kind():
    with pytest.raises(InputError, match=r"R2.*'binary'"):
        R2(BINARY)


def test_a_constant_target_far_from_the_training_mean_has_no_r2():
    metric = R2(TargetSpec("values", ("x",), mean=(0.0,), std=(1.0,)))
    for value in (0.1, 12345.678):
        metric.reset()
        metric.update({"standardized": torch.zeros(7, 1)}, Batch({}, {"target": torch.full((7,), value)}))
        assert math.isnan(metric.compute())


@pytest.mark.parametrize(("name", "kind"), REFERENCES)
def test_an_answer_that_is_nan_makes_every_metric_nan(name, kind):
    decoded, truth, _ = case(TARGETS[kind])
    key, answers = next(iter(decoded.items()))
    answers[3] = math.nan
    metric = family("metric").build(name, TARGETS[kind])
    metric.update({key: torch.from_numpy(answers).float()}, Batch({}, {"target": torch.from_numpy(truth)}))
    assert math.isnan(metric.compute())


def test_exact_area_of_nan_is_nan():
    assert math.isnan(exact_auc(np.array([0.1, math.nan, 0.3]), np.array([0, 1, 1])))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40))
def test_exact_area_is_scikit_learns_with_ties_and_weights(rows):
    scores, labels, weight = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    if min((weight * labels).sum(), (weight * (1 - labels)).sum()) == 0:
        assert math.isnan(exact_auc(scores, labels, weight))
        return
    assert exact_auc(scores, labels, weight) == pytest.approx(reference.roc_auc_score(labels, scores, sample_weight=weight), abs=1e-12)
    if 0 < labels.sum() < len(labels):
        assert exact_auc(scores, labels) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)


def test_exact_area_of_nothing():
    assert math.isnan(exact_auc(np.zeros(0), np.zeros(0)))
