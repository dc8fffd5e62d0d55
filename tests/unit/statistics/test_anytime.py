"""Tests and intervals that may be looked at any time: against closed forms and by simulation."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from deepseek.statistics.anytime import (
    above_evidence,
    anytime_interval,
    anytime_p,
    below_evidence,
    multinomial_evidence,
    rows_needed,
    tuning,
)

ALPHA = 0.05


def paths(draw, streams, rows, seed=0):
    """Running means of many streams, `[streams, rows]`, with the variance of each."""
    values = draw(np.random.default_rng(seed), (streams, rows))
    counts = np.arange(1, rows + 1)
    means = values.cumsum(axis=1) / counts
    squares = (values**2).cumsum(axis=1) / counts
    return means, (squares - means**2) / counts, counts


def test_the_interval_is_what_the_mixture_ratio_does_not_refuse():
    value, variance, ratio = 0.3, 0.02, 5.0
    interval = anytime_interval(value, variance, ratio=ratio, alpha=ALPHA)
    spread = math.sqrt(ratio * variance)
    for end in (interval.low, interval.high):
        density = lambda effect: stats.norm.pdf(value, end + effect, math.sqrt(variance)) * stats.norm.pdf(effect, 0, spread)  # noqa: B023, E731
        mixed = integrate.quad(density, -3, 3, epsabs=1e-13)[0]
        assert mixed / stats.norm.pdf(value, end, math.sqrt(variance)) == pytest.approx(1 / ALPHA, rel=1e-6)


def test_the_probability_reaches_alpha_where_the_interval_leaves_zero():
    for variance in (1e-4, 3e-4, 1e-3, 2e-3):
        interval, p = anytime_interval(0.1, variance, ratio=3.0), anytime_p(0.1, variance, ratio=3.0)
        assert interval.excludes_zero == (p < ALPHA)


def test_who_looks_all_the_time_is_wrong_at_most_as_often_as_stated_and_by_the_usual_test_far_more_often():
    means, variances, counts = paths(lambda random, shape: random.normal(0.5, 2, shape), 1500, 2000)
    looks = slice(30, None)
    outside = np.zeros(len(means), dtype=bool)
    for place in range(30, 2000, 7):
        reach = anytime_interval(0.0, 1.0, ratio=tuning(1000) * counts[place]).high
        outside |= np.abs(means[:, place] - 0.5) > reach * np.sqrt(variances[:, place])
    usual = (np.abs(means[:, looks] - 0.5) > 1.96 * np.sqrt(variances[:, looks])).any(axis=1)
    assert outside.mean() <= ALPHA
    assert usual.mean() > 4 * ALPHA


def test_it_is_tightest_where_it_was_tuned_for():
    def width(rows, planned):
        return anytime_interval(0.0, 1 / rows, ratio=tuning(planned) * rows).high

    for planned in (100, 1_000, 10_000):
        others = [width(planned, other) for other in np.geomspace(planned / 30, planned * 30, 41)]
        assert width(planned, planned) <= min(others) * 1.002


def test_rows_needed_are_those_at_which_the_stated_share_of_streams_is_seen():
    effect, tuned = 0.15, tuning(1_000)
    rows = math.ceil(rows_needed(effect, 1.0, tuned=tuned, power=0.8))
    means = np.random.default_rng(1).normal(effect, 1 / math.sqrt(rows), 4000)
    seen = means > anytime_interval(0.0, 1 / rows, ratio=tuned * rows).high
    assert seen.mean() == pytest.approx(0.8, abs=0.03)
    assert rows_needed(0.0, 1.0, tuned=tuned) == math.inf


def test_nothing_known_is_no_evidence():
    assert anytime_interval(math.nan, math.nan, ratio=0.0).high == math.inf
    assert anytime_p(0.1, math.nan, ratio=1.0) == 1.0
    assert (anytime_p(0.0, 0.0, ratio=1.0), anytime_p(0.1, 0.0, ratio=1.0)) == (1.0, 0.0)


def test_the_multinomial_evidence_is_the_dirichlet_bayes_factor():
    shares, counts, concentration = (0.2, 0.8), (7, 13), 50.0
    prior = stats.beta(concentration * 0.2, concentration * 0.8)
    density = lambda share: prior.pdf(share) * share**7 * (1 - share) ** 13  # noqa: E731
    expected = integrate.quad(density, 0, 1, epsabs=1e-18)[0] / (0.2**7 * 0.8**13)
    assert multinomial_evidence(counts, shares, concentration=concentration) == pytest.approx(math.log(expected), rel=1e-6)


def test_a_right_sample_ratio_is_seldom_ever_doubted_and_a_wrong_one_is_found():
    random = np.random.default_rng(2)

    def ever(true, said, keys=6000):
        given = np.cumsum(random.random((400, keys)) < true, axis=1)
        looks = range(49, keys, 50)
        found = [[multinomial_evidence([row[at], at + 1 - row[at]], [said, 1 - said]) for at in looks] for row in given]
        return (np.array(found).max(axis=1) >= math.log(1 / ALPHA)).mean()

    assert ever(0.5, 0.5) <= ALPHA
    assert ever(0.1, 0.1) <= ALPHA
    assert ever(0.54, 0.5) > 0.9
    assert ever(0.08, 0.1) > 0.6


@pytest.mark.parametrize(("evidence", "inside", "beyond", "seed"), [(above_evidence, 0.02, 0.08, 3), (below_evidence, 0.08, 0.03, 4)])
def test_a_share_on_its_side_of_the_limit_is_seldom_ever_beyond_it_and_one_beyond_is_found(evidence, inside, beyond, seed):
    random = np.random.default_rng(seed)

    def ever(true, limit=0.05, rows=3000):
        hits = np.cumsum(random.random((400, rows)) < true, axis=1)
        found = [[evidence(row[at], at + 1, limit=limit) for at in range(9, rows, 30)] for row in hits]
        return (np.array(found).max(axis=1) >= math.log(1 / ALPHA)).mean()

    assert ever(0.05) <= ALPHA
    assert ever(inside) <= ALPHA
    assert ever(beyond) > 0.9
