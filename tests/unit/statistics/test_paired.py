import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from deepseek.statistics.paired import auc_difference, mcnemar


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
