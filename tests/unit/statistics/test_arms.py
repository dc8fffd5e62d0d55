"""Arms compared: against the usual tests, with keys that come again, in pairs, over phases, and by simulation under continuous peeking."""

import math

import numpy as np
import pytest
from scipy import stats

from deepseek.errors import InputError
from deepseek.statistics.arms import ArmSums, arm_interval, compare_arms, rows_to_see

B = 1024


def arm(values, buckets, phase=0):
    sums = ArmSums()
    sums.add(phase, np.asarray(buckets), np.asarray(values, dtype=np.float64))
    return sums


def test_rows_of_different_keys_give_welchs_test():
    random = np.random.default_rng(0)
    one, two = random.normal(1, 2, 500), random.normal(1.2, 3, 400)
    # each row a bucket of its own, as far as there are any
    found = compare_arms(arm(one, np.arange(500)), arm(two, 500 + np.arange(400)))
    expected = stats.ttest_ind(two, one, equal_var=False)
    assert found.value == pytest.approx(two.mean() - one.mean())
    interval = expected.confidence_interval(0.95)
    # what is added for few rows makes ours a little wider
    assert interval.low - 0.02 < found.fixed.low < interval.low
    assert interval.high < found.fixed.high < interval.high + 0.02
    assert found.anytime.low < found.fixed.low
    assert found.anytime.high > found.fixed.high


def test_a_share_gives_the_usual_test_of_two_proportions():
    random = np.random.default_rng(1)
    one, two = random.random(4000) < 0.80, random.random(4000) < 0.83
    found = compare_arms(arm(one, random.integers(0, B, 4000)), arm(two, random.integers(0, B, 4000)))
    p1, p2 = one.mean(), two.mean()
    z = (p2 - p1) / math.sqrt((p1 * (1 - p1) + p2 * (1 - p2)) / 4000)
    assert found.fixed_p == pytest.approx(2 * stats.norm.sf(abs(z)), rel=0.25)


def test_rows_of_one_key_are_not_independent():
    """100 keys with 50 equal rows each are 100 observations, not 5,000."""
    random = np.random.default_rng(2)
    keys = random.permutation(B)[:200]
    habits = random.normal(0, 1, 200)
    one, two = (arm(np.repeat(habits[part], 50), np.repeat(keys[part], 50)) for part in (slice(100), slice(100, None)))
    found = compare_arms(one, two)
    truth = stats.ttest_ind(habits[100:], habits[:100], equal_var=False)
    assert found.fixed_p == pytest.approx(truth.pvalue, rel=0.1)
    assert one.variance() == pytest.approx(habits[:100].var(ddof=1) / 100, rel=0.02)


def test_rows_that_both_have_answered_are_compared_in_pairs():
    random = np.random.default_rng(3)
    one = random.normal(0, 5, 800)
    two = one + random.normal(0.1, 0.2, 800)
    buckets = random.permutation(B)[:800]
    found = compare_arms(arm(one, buckets), arm(two, buckets))
    paired = stats.ttest_rel(two, one)
    wide = stats.ttest_ind(two, one)
    assert paired.pvalue < 1e-10
    assert wide.pvalue > 0.1
    assert found.anytime.excludes_zero


def test_days_are_not_compared_with_other_days():
    """The challenger gets more traffic on the bad day: pooled, it looks worse; it is better on both days."""
    champion, challenger = ArmSums(), ArmSums()
    random = np.random.default_rng(4)
    for phase, (rows, more, level) in enumerate(((9000, 1000, 0.9), (1000, 9000, 0.6))):
        champion.add(phase, random.integers(0, B, rows), (random.random(rows) < level).astype(float))
        challenger.add(phase, random.integers(0, B, more), (random.random(more) < level + 0.05).astype(float))
    assert challenger.mean < champion.mean
    found = compare_arms(champion, challenger)
    assert found.value == pytest.approx(0.05, abs=0.02)
    assert found.anytime.low > 0


def test_a_key_in_two_phases_is_still_one_key():
    random = np.random.default_rng(5)
    habits, keys = random.normal(0, 1, 400), random.permutation(B)[:400]
    once, twice = [ArmSums(), ArmSums()], [ArmSums(), ArmSums()]
    for side, part in enumerate((slice(200), slice(200, None))):
        once[side].add(0, keys[part], habits[part])
        for phase in (0, 1):
            twice[side].add(phase, keys[part], habits[part])
    variances = [found.row_variance / found.effective for found in (compare_arms(*once), compare_arms(*twice))]
    assert variances[1] == pytest.approx(variances[0], rel=0.1)  # and not half of it


def peek(rates, share, streams, rows, *, first=100, every=100, seed=0):
    """Return in what share of streams a difference was declared at any look, and the rows it took."""
    random = np.random.default_rng(seed)
    seen, when = 0, []
    for _ in range(streams):
        given = random.random(rows) < share
        values = np.where(given, random.random(rows) < rates[1], random.random(rows) < rates[0]).astype(float)
        buckets = random.integers(0, B, rows)
        one, two = ArmSums(), ArmSums()
        for start in range(0, rows, every):
            part = slice(start, start + every)
            one.add(0, buckets[part][~given[part]], values[part][~given[part]])
            two.add(0, buckets[part][given[part]], values[part][given[part]])
            if min(one.rows, two.rows) >= first and compare_arms(one, two).anytime.excludes_zero:
                seen += 1
                when.append(start + every)
                break
    return seen / streams, when


@pytest.mark.parametrize(("rate", "share", "first"), [(0.9, 0.5, 100), (0.98, 0.1, 50), (0.5, 0.1, 50)])
def test_no_difference_is_declared_at_most_at_the_stated_rate_however_often_one_looks(rate, share, first):
    found, _ = peek((rate, rate), share, 150, 4000, first=first)
    assert found <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 150)


def test_a_difference_is_found_within_the_rows_that_were_said_to_be_needed():
    random = np.random.default_rng(6)
    one, two = (arm(random.random(500) < 0.85, random.integers(0, B, 500)) for _ in range(2))
    more = rows_to_see(compare_arms(one, two), 0.05)
    found, when = peek((0.85, 0.90), 0.5, 60, math.ceil(more) + 1000)
    assert found >= 0.8
    assert np.median(when) < more + 1000  # who looks all the time is mostly done before


def test_nothing_is_said_of_nothing():
    empty = compare_arms(ArmSums(), ArmSums())
    assert (empty.anytime.low, empty.anytime.high, empty.p, empty.rows) == (-math.inf, math.inf, 1.0, (0, 0))
    assert rows_to_see(empty, 0.1) == math.inf
    assert math.isnan(arm_interval(ArmSums()).value)
    single = compare_arms(arm([1.0], [3]), arm([0.0], [3]))
    assert not single.anytime.excludes_zero
    with pytest.raises(InputError, match="not finite"):
        ArmSums().add(0, np.array([0]), np.array([np.nan]))


def test_few_rows_of_a_rare_event_are_not_sure():
    """Without mistakes in a small arm there is no spread yet; it must not look certain for that."""
    random = np.random.default_rng(7)
    many = arm(random.random(3000) < 0.95, random.integers(0, B, 3000))
    few = arm(np.ones(100), random.integers(0, B, 100))
    assert not compare_arms(many, few).anytime.excludes_zero
    assert arm_interval(few, spread=1.0).low < 0.985


def test_arms_that_made_no_mistake_yet_are_not_known_to_be_equal():
    one, two = (arm(np.ones(100), np.arange(100) + start) for start in (0, 100))
    found = compare_arms(one, two, spread=1.0)
    assert found.value == 0
    assert found.anytime.low < -0.01 < 0.01 < found.anytime.high  # a true difference of a point is not left out
    assert compare_arms(one, two).anytime.high == 0  # of values that may be anything nothing is known


def test_what_is_loaded_is_what_was_there():
    sums = arm([1.0, 2.0], [0, 1], phase=3)
    again = ArmSums()
    again.load(3, sums.phases[3])
    assert again.mean == sums.mean == 1.5
