import math

import numpy as np
import pytest
from scipy import stats

from deepseek.statistics.association import correlation_ratio, cramers_v, mid_ranks, pearson, spearman


def test_correlations_are_scipys_on_rows_that_have_both():
    random = np.random.default_rng(0)
    one = random.integers(0, 20, 500).astype(float)
    two = one**3 + random.normal(0, 500, 500)
    assert pearson(one, two) == pytest.approx(stats.pearsonr(one, two).statistic)
    assert spearman(one, two) == pytest.approx(stats.spearmanr(one, two).statistic)
    holes = one.copy()
    holes[:100] = np.nan
    assert spearman(holes, two) == pytest.approx(stats.spearmanr(one[100:], two[100:]).statistic)
    np.testing.assert_array_equal(mid_ranks(one), stats.rankdata(one))
    assert math.isnan(pearson(np.ones(5), np.arange(5)))


def test_cramers_v_is_one_for_the_same_and_near_zero_for_unrelated_columns_of_many_names():
    random = np.random.default_rng(0)
    one, two = random.integers(0, 60, 800), random.integers(0, 60, 800)
    assert cramers_v(one, one) == pytest.approx(1)
    chi = stats.chi2_contingency(np.histogram2d(one, two, bins=60)[0], correction=False).statistic
    assert math.sqrt(chi / 800 / 59) > 0.25  # uncorrected, chance looks like a relation
    assert cramers_v(one, two) < 0.1
    assert math.isnan(cramers_v(np.zeros(10, int), np.arange(10)))


def test_the_correlation_ratio_finds_groups_and_not_chance():
    random = np.random.default_rng(0)
    groups = random.integers(0, 50, 1000)
    assert correlation_ratio(groups, groups % 7 + random.normal(0, 0.01, 1000)) == pytest.approx(1, abs=1e-3)
    assert correlation_ratio(groups, random.normal(size=1000)) < 0.15
    assert math.isnan(correlation_ratio(np.arange(10), np.arange(10.0)))
