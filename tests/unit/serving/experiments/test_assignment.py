"""Who gets which arm: evenly, for good, and in every experiment anew."""

import itertools

import numpy as np
import pytest
from scipy import stats

from deepseek.serving.experiments.assignment import Ticket, arm_of, place_of

KEYS = [f"customer-{number}" for number in range(20_000)]


def places(salt, keys=KEYS):
    return np.array([place_of(salt, key)[0] for key in keys])


@pytest.mark.parametrize("keys", [KEYS, [str(number) for number in range(20_000)], [f"{number:032x}" for number in range(20_000)]])
def test_keys_spread_evenly_whatever_they_look_like(keys):
    found = places("salt", keys)
    assert stats.kstest(found, "uniform").pvalue > 0.001
    assert found.min() >= 0
    assert found.max() < 1


def test_two_experiments_divide_the_same_keys_independently():
    first, second = places("one") < 0.3, places("other") < 0.3
    table = np.histogram2d(first, second, bins=2)[0]
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_the_hash_that_is_kept_says_nothing_of_the_arm():
    found = [place_of("salt", key) for key in KEYS]
    in_arm, buckets = np.array([place < 0.5 for place, _ in found]), np.array([key % 16 for _, key in found])
    assert stats.chi2_contingency(np.histogram2d(in_arm, buckets, bins=(2, 16))[0]).pvalue > 0.001


def test_it_is_the_same_in_every_process_and_version():
    assert place_of("0f3a", "customer-17") == (0.5368004099747105, 8421971644806101190)


def test_raising_a_share_takes_the_challenger_from_nobody():
    found = places("salt")
    before = np.array([arm_of(place, [0.05]) for place in found])
    after = np.array([arm_of(place, [0.4]) for place in found])
    assert (after[before == 0] == 0).all()
    assert (before == 0).mean() == pytest.approx(0.05, abs=0.005)
    assert (after == 0).mean() == pytest.approx(0.4, abs=0.01)


def test_nobody_changes_from_one_challenger_to_another():
    found = places("salt")
    steps = [np.array([arm_of(place, shares) for place in found]) for shares in ([0.1, 0.1], [0.3, 0.1], [0.5, 0.5])]
    for before, after in itertools.pairwise(steps):
        assert (after[before >= 0] == before[before >= 0]).all()
    assert [round((steps[1] == number).mean(), 2) for number in (-1, 0, 1)] == pytest.approx([0.6, 0.3, 0.1], abs=0.01)
    assert set(steps[2]) == {0, 1}


def test_the_ends():
    assert arm_of(0.0, [0.0]) == -1
    assert arm_of(np.nextafter(1.0, 0.0), [1.0]) == 0
    assert arm_of(np.nextafter(1.0, 0.0), [1 / 3] * 3) == 2
    assert arm_of(0.5, []) == -1


def test_a_ticket_is_read_as_it_was_written():
    ticket = Ticket("0a1b2c3d", 7, 2**64 - 1)
    assert Ticket.read(str(ticket)) == ticket
    with pytest.raises(ValueError, match="unpack"):
        Ticket.read("customer-17")
