"""Curves and calibration are scikit-learn's."""

import math

import numpy as np
import pytest
from sklearn import metrics

from deepseek.statistics.curves import (
    average_precision,
    calibration_bins,
    calibration_error,
    precision_recall_curve,
    roc_curve,
    threshold_table,
)

RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.random(3_000) < 0.3
SCORE = np.round(np.clip(RANDOM.normal(0.4 + 0.2 * TRUTH, 0.2), 0, 1), 2)  # with ties


def test_roc_goes_through_scikit_learns_points():
    false, found, _ = metrics.roc_curve(TRUTH, SCORE, drop_intermediate=False)
    curve = roc_curve(SCORE, TRUTH, points=10_000)
    np.testing.assert_allclose(curve.x, false)
    np.testing.assert_allclose(curve.y, found)


def test_a_thinned_curve_keeps_its_ends_and_its_area():
    curve = roc_curve(np.random.default_rng(1).random(50_000) + 0.3 * (np.arange(50_000) % 2), np.arange(50_000) % 2 == 1, points=100)
    whole = roc_curve(np.random.default_rng(1).random(50_000) + 0.3 * (np.arange(50_000) % 2), np.arange(50_000) % 2 == 1, points=10**6)
    assert len(curve.x) <= 102
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(np.trapezoid(whole.y, whole.x), abs=1e-3)


def test_precision_and_recall_are_scikit_learns():
    precision, recall, _ = metrics.precision_recall_curve(TRUTH, SCORE)
    curve = precision_recall_curve(SCORE, TRUTH, points=10_000)
    np.testing.assert_allclose(curve.x, recall[:-1][::-1])
    np.testing.assert_allclose(curve.y, precision[:-1][::-1])
    assert average_precision(SCORE, TRUTH) == pytest.approx(metrics.average_precision_score(TRUTH, SCORE))


def test_calibration_counts_every_row_once():
    bins = calibration_bins(SCORE, TRUTH)
    assert sum(one.rows for one in bins) == len(SCORE)
    assert sum(one.rows * one.observed for one in bins) == pytest.approx(TRUTH.sum())
    assert all(one.low <= one.observed <= one.high for one in bins)


def test_the_calibration_error_is_the_distance():
    assert calibration_error(calibration_bins(np.full(10, 0.9), np.arange(10) < 5)) == pytest.approx(0.4)
    assert calibration_error(calibration_bins(np.full(10, 0.5), np.arange(10) < 5)) == 0
    assert math.isnan(calibration_error([]))


def test_a_threshold_gives_scikit_learns_numbers():
    [row] = threshold_table(SCORE, TRUTH, np.array([0.5]))
    called = SCORE >= 0.5
    assert row.precision == pytest.approx(metrics.precision_score(TRUTH, called))
    assert row.recall == pytest.approx(metrics.recall_score(TRUTH, called))
    assert row.f1 == pytest.approx(metrics.f1_score(TRUTH, called))
    assert row.positives == called.sum()


WEIGHT = np.where(RANDOM.random(3_000) < 0.1, 0.0, RANDOM.exponential(1.0, 3_000) + 2 * TRUTH * SCORE)


def test_weighted_curves_are_scikit_learns():
    false, found, _ = metrics.roc_curve(TRUTH, SCORE, sample_weight=WEIGHT, drop_intermediate=False)
    curve = roc_curve(SCORE, TRUTH, points=10_000, weight=WEIGHT)
    np.testing.assert_allclose(curve.x, false, atol=1e-12)
    np.testing.assert_allclose(curve.y, found, atol=1e-12)
    some = WEIGHT > 0
    precision, recall, _ = metrics.precision_recall_curve(TRUTH[some], SCORE[some], sample_weight=WEIGHT[some])
    curve = precision_recall_curve(SCORE, TRUTH, points=10_000, weight=WEIGHT)
    np.testing.assert_allclose(curve.x, recall[:-1][::-1])
    np.testing.assert_allclose(curve.y, precision[:-1][::-1])
    weighted = average_precision(SCORE, TRUTH, weight=WEIGHT)
    assert weighted == pytest.approx(metrics.average_precision_score(TRUTH, SCORE, sample_weight=WEIGHT))
    assert weighted != pytest.approx(average_precision(SCORE, TRUTH), abs=1e-3)


def test_weighted_calibration_is_of_weights_and_its_intervals_of_what_they_tell():
    bins = calibration_bins(SCORE, TRUTH, weight=WEIGHT)
    assert sum(one.rows for one in bins) == (WEIGHT > 0).sum()
    assert sum(one.weight * one.observed for one in bins) == pytest.approx(WEIGHT @ TRUTH)
    assert sum(one.weight * one.predicted for one in bins) == pytest.approx(WEIGHT @ SCORE)
    plain = calibration_bins(SCORE, TRUTH)
    assert calibration_bins(SCORE, TRUTH, weight=np.full(len(SCORE), 2.0))[3][:5] == pytest.approx(plain[3][:5])
    uneven = np.where(np.arange(len(SCORE)) % 10, 0.1, 10.0)
    [one], [two] = (calibration_bins(np.full(len(SCORE), 0.5), TRUTH, weight=weight) for weight in (None, uneven))
    assert two.high - two.low > 2 * (one.high - one.low)


def test_a_weighted_threshold_gives_scikit_learns_numbers():
    [row] = threshold_table(SCORE, TRUTH, np.array([0.5]), weight=WEIGHT)
    called = SCORE >= 0.5
    assert row.precision == pytest.approx(metrics.precision_score(TRUTH, called, sample_weight=WEIGHT))
    assert row.recall == pytest.approx(metrics.recall_score(TRUTH, called, sample_weight=WEIGHT))
    assert row.f1 == pytest.approx(metrics.f1_score(TRUTH, called, sample_weight=WEIGHT))
    assert row.false_positive_rate == pytest.approx(WEIGHT[called & ~TRUTH].sum() / WEIGHT[~TRUTH].sum())
    assert row.positives == called.sum()


def test_one_class_alone_has_no_curve():
    assert len(roc_curve(SCORE, np.ones(len(SCORE), bool)).x) == 0
    assert math.isnan(average_precision(SCORE, np.zeros(len(SCORE), bool)))
