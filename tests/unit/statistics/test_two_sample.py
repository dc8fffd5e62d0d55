import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from deepseek.statistics.two_sample import (
    benjamini_hochberg,
    bin_counts,
    chi_square,
    chi_square_tail,
    jensen_shannon,
    kolmogorov_smirnov,
    population_stability,
    quantile_edges,
)


@pytest.mark.parametrize(("rows", "shift"), [((200, 300), 0.0), ((200, 300), 0.15), ((1000, 50), 0.3), ((5000, 5000), 0.03)])
def test_kolmogorov_smirnov_is_scipys(rows, shift):
    random = np.random.default_rng(1)
    one, two = random.normal(0, 1, rows[0]), random.normal(shift, 1, rows[1])
    ours, theirs = kolmogorov_smirnov(one, two), stats.ks_2samp(one, two, method="exact")
    assert ours.statistic == pytest.approx(theirs.statistic, abs=1e-12)
    assert ours.p == pytest.approx(theirs.pvalue, rel=0.1, abs=0.005)


def test_missing_values_are_passed_over_and_nothing_is_no_difference():
    assert kolmogorov_smirnov([1, 2, np.nan, np.inf], [1, 2]).statistic == 0
    assert kolmogorov_smirnov([], [1.0]).p == 1


def test_false_alarms_are_as_frequent_as_stated_and_a_shift_is_found():
    random = np.random.default_rng(2)
    alarms = sum(kolmogorov_smirnov(random.normal(size=300), random.normal(size=400)).p < 0.05 for _ in range(1000))
    found = sum(kolmogorov_smirnov(random.normal(size=300), random.normal(0.5, 1, 400)).p < 0.05 for _ in range(200))
    assert 25 <= alarms <= 70
    assert found == 200


def test_chi_square_is_scipys_where_nothing_is_rare():
    counts = np.array([[30, 50, 20, 70], [40, 30, 35, 60]])
    theirs = stats.chi2_contingency(counts, correction=False)
    ours = chi_square(*counts)
    assert (ours.statistic, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-10)


def test_rare_categories_are_pooled():
    pooled = chi_square([100, 100, 1, 2, 1, 3], [100, 100, 2, 1, 3, 1])
    assert pooled.statistic == pytest.approx(chi_square([100, 100, 7], [100, 100, 7]).statistic)
    assert chi_square([1, 0], [0, 1]).p == 1
    assert chi_square([5, 5], [0, 0]).p == 1


def test_chi_square_keeps_its_false_alarm_rate_with_many_rare_categories():
    random = np.random.default_rng(3)
    shares = random.dirichlet(np.full(40, 0.3))
    alarms = sum(chi_square(random.multinomial(300, shares), random.multinomial(300, shares)).p < 0.05 for _ in range(1000))
    assert 25 <= alarms <= 75


@pytest.mark.parametrize("degrees", [1, 2, 5, 30, 200])
def test_the_tail_of_chi_square_is_scipys(degrees):
    for statistic in (0.0, 0.1, degrees / 2, degrees, 2.0 * degrees, 5.0 * degrees + 30):
        assert chi_square_tail(statistic, degrees) == pytest.approx(stats.chi2.sf(statistic, degrees), rel=1e-9, abs=1e-14)


def test_jensen_shannon_is_scipys():
    one, two = [10, 0, 5, 85], [20, 30, 0, 50]
    assert jensen_shannon(one, two) == pytest.approx(jensenshannon(one, two, base=2))
    assert jensen_shannon(one, one) == pytest.approx(0, abs=1e-7)
    assert math.isnan(jensen_shannon([0, 0], [1, 0]))


def test_population_stability_is_the_formula_with_half_a_row_in_each_bin():
    one, two = np.array([100, 300, 600]), np.array([200, 300, 0])
    r, c = (one + 0.5) / (one + 0.5).sum(), (two + 0.5) / (two + 0.5).sum()
    assert population_stability(one, two) == pytest.approx(((c - r) * np.log(c / r)).sum())
    assert population_stability(one, one) == 0


def test_bins_hold_equally_many_reference_rows():
    values = np.random.default_rng(0).lognormal(size=10_000)
    counts = bin_counts(values, quantile_edges(values))
    assert len(counts) == 10
    assert counts.min() > 990
    assert bin_counts([0, 0, 0, 5], quantile_edges([0, 0, 0, 5])).sum() == 4
    assert len(quantile_edges([3, 3, 3])) == 0
    assert bin_counts([np.nan, 1], np.empty(0)).tolist() == [1]


def test_benjamini_hochberg_is_scipys():
    p = np.random.default_rng(0).random(50) ** 3
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p))
    assert len(benjamini_hochberg([])) == 0
