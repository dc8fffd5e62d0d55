import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from deepseek.errors import InputError
from deepseek.statistics.paired import auc_difference, auc_gain_bound, mcnemar


def flags(both, one, two, neither=0):
    first = np.repeat([True, True, False, False], [both, one, two, neither])
    second = np.repeat([True, False, True, False], [both, one, two, neither])
    return first, second


@pytest.mark.parametrize(("one", "two"), [(8, 1), (30, 30), (120, 80), (0, 0)])
def test_mcnemar_is_the_binomial_test(one, two):
    found = mcnemar(*flags(50, one, two))
    wanted = stats.binomtest(one, one + two).pvalue if one + two else 1.0
    assert (found.only_first, found.only_second) == (one, two)
    assert found.p == pytest.approx(wanted)


def test_many_rows_take_the_approximation():
    assert mcnemar(*flags(5, 5200, 5000)).p == pytest.approx(stats.binomtest(5200, 10200).pvalue, rel=1e-3)


def test_the_difference_of_areas_is_sklearns_and_its_spread_the_bootstraps():
    random = np.random.default_rng(0)
    labels = random.random(800) < 0.3
    first, second = labels + random.normal(0, 1, 800), labels + random.normal(0, 1.5, 800)
    interval, p = auc_difference(first, second, labels)
    assert interval.value == pytest.approx(roc_auc_score(labels, first) - roc_auc_score(labels, second))
    draws = []
    for _ in range(400):
        rows = random.integers(0, 800, 800)
        draws.append(roc_auc_score(labels[rows], first[rows]) - roc_auc_score(labels[rows], second[rows]))
    assert (interval.high - interval.low) / 2 / 1.96 == pytest.approx(np.std(draws), rel=0.15)
    assert p < 0.05


def test_the_intervals_hold_no_difference_as_often_as_stated_and_one_model_equals_itself():
    random = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        labels = random.random(200) < 0.4
        common = labels + random.normal(0, 1, 200)
        interval, _ = auc_difference(common + random.normal(0, 0.5, 200), common + random.normal(0, 0.5, 200), labels)
        held += not interval.excludes_zero
    assert 272 <= held <= 297
    assert auc_difference(common, common, labels)[1] == 1


def test_weighted_areas_are_sklearns_and_their_spread_the_bootstraps():
    random = np.random.default_rng(0)
    labels = random.random(900) < 0.4
    weight = np.where(random.random(900) < 0.1, 0.0, random.exponential(1.0, 900))
    first, second = (np.round(labels + random.normal(0, spread, 900), 1) for spread in (1, 1.5))
    interval, _ = auc_difference(first, second, labels, weight=weight)
    areas = [roc_auc_score(labels, scores, sample_weight=weight) for scores in (first, second)]
    assert interval.value == pytest.approx(areas[0] - areas[1])
    draws = []
    for _ in range(400):
        rows = random.integers(0, 900, 900)
        draws.append(np.subtract(*[roc_auc_score(labels[rows], scores[rows], sample_weight=weight[rows]) for scores in (first, second)]))
    assert (interval.high - interval.low) / 2 / 1.96 == pytest.approx(np.std(draws), rel=0.15)
    plain, of_plain = auc_difference(first, second, labels)
    assert interval.value != pytest.approx(plain.value, abs=1e-3)
    alike, of_alike = auc_difference(first, second, labels, weight=np.full(900, 3.0))
    assert (alike.value, alike.low, of_alike) == pytest.approx((plain.value, plain.low, of_plain))


def test_two_perfect_models_do_not_differ_by_rounding():
    labels = np.random.default_rng(0).random(500) < 0.4
    weight = np.random.default_rng(1).random(500)
    first, second = (labels + 0.5 * np.random.default_rng(seed).random(500) for seed in (2, 3))
    interval, p = auc_difference(first, second, labels, weight=weight)
    assert (interval.low, interval.high, p) == (0, 0, 1)


@pytest.mark.parametrize("positives", [0, 1, 59, 60])
def test_areas_with_less_than_two_rows_of_a_class_are_refused(positives):
    scores, labels = np.random.default_rng(0).normal(size=(2, 60)), np.arange(60) < positives
    with pytest.raises(InputError, match=f"{positives} positive rows and {60 - positives} negative ones"):
        auc_difference(*scores, labels)
    with pytest.raises(InputError, match="give 2 of each"):
        auc_gain_bound(*scores, labels, alpha=0.05)


def test_the_bound_of_an_areas_gain_lies_below_delongs():
    random = np.random.default_rng(0)
    labels = np.arange(800) < 300
    first, second = random.normal(size=800) + 2 * labels, random.normal(size=800) + labels
    interval, _ = auc_difference(first, second, labels, level=0.95)
    assert interval.low - 0.03 < auc_gain_bound(first, second, labels, alpha=0.025) < interval.low
