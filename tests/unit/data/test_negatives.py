"""Negatives: never what the user has had, only what existed, as popular as it was then, and the same for the same seed."""

from dataclasses import replace

import numpy as np
import pytest

from deepseek.data.negatives import (
    NONE,
    InteractionLog,
    NegativeRules,
    correct_probability,
    draw_negatives,
    stands_for,
)
from deepseek.errors import InputError

WAYS = ("uniform", "popularity", "batch", "hard")


def log_of(rows=4000, *, users=60, items=80, seed=0, timed=True):
    draw = np.random.default_rng(seed)
    popular = draw.permutation(items)
    item = popular[np.minimum((draw.random(rows) ** 2 * items).astype(int), items - 1)]
    moments = np.sort(draw.integers(0, rows // 2, rows)) if timed else None
    return InteractionLog(draw.integers(0, users, rows), item, moments), moments


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("timed", [True, False])
def test_no_negative_is_what_the_user_has_had_nor_what_did_not_exist(how, timed):
    """Against a slow loop over the log itself."""
    log, moments = log_of(1200, timed=timed)
    rows = np.arange(log.rows)
    found = draw_negatives(log, rows, NegativeRules(how, ratio=3))
    for row in rows:
        until = log.rows if moments is None else int((moments <= moments[row]).sum())
        had = set(log.items[:until][log.users[:until] == log.users[row]])
        there = set(log.items[:until])
        given = [item for item in found[row].tolist() if item != NONE]
        assert not had & set(given)
        assert set(given) <= there
        assert len(set(given)) == len(given) == min(3, len(there - had))


def test_what_is_chosen_later_may_be_drawn_and_is_what_tells_the_future_if_not():
    """One user, two items: at the first choice the other item exists by another user's choice, though this user takes it later."""
    log = InteractionLog(np.array([1, 0, 0]), np.array([1, 0, 1]), np.array([1, 2, 3]))
    assert draw_negatives(log, np.array([1]), NegativeRules(ratio=1)).tolist() == [[1]]
    assert draw_negatives(log, np.array([2]), NegativeRules(ratio=1)).tolist() == [[NONE]]
    ever = InteractionLog(np.array([1, 0, 0]), np.array([1, 0, 1]))
    assert draw_negatives(ever, np.array([1]), NegativeRules(ratio=1)).tolist() == [[NONE]]


def test_choices_of_one_moment_know_of_one_another():
    log = InteractionLog(np.array([0, 0, 1]), np.array([0, 1, 2]), np.array([5, 5, 5]))
    assert draw_negatives(log, np.array([0, 1]), NegativeRules(ratio=1)).tolist() == [[2], [2]]


@pytest.mark.parametrize(("how", "power"), [("uniform", 0.0), ("popularity", 0.75), ("popularity", 0.0), ("batch", 1.0)])
def test_items_are_drawn_by_their_popularity_to_the_power(how, power):
    draw = np.random.default_rng(1)
    counts = np.array([400, 200, 100, 50, 25, 5])
    items = draw.permutation(np.repeat(np.arange(6), counts))
    users = np.arange(len(items))  # each user has one item, so that little is left out
    users[:] = 10_000 + np.arange(len(items))
    log = InteractionLog(np.concatenate([[0] * 20_000, users]) - 0, np.concatenate([np.full(20_000, 6), items]))
    rows = np.arange(20_000)  # all of them by user 0, who has had item 6 alone
    found = draw_negatives(log, rows, NegativeRules(how, ratio=1, power=power))
    share = np.bincount(found[:, 0], minlength=7)[:6] / len(rows)
    wanted = counts**power / (counts**power).sum()
    spread = np.sqrt(wanted * (1 - wanted) / len(rows))
    assert np.abs(share - wanted).max() < 4.5 * spread.max()


def test_popularity_is_counted_until_then():
    """Before the flood of item 1 both items are alike; afterwards it is drawn far more often."""
    early = np.concatenate([np.full(400, 2), [0, 1]])
    items = np.concatenate([early, np.full(2000, 1), np.full(400, 2)])
    users = np.concatenate([np.zeros(400), [1, 2], np.arange(3, 2003), np.zeros(400)]).astype(int)
    moments = np.concatenate([np.full(402, 1), np.full(2000, 2), np.full(400, 3)])
    log = InteractionLog(users, items, moments)
    first = draw_negatives(log, np.arange(400), NegativeRules("batch", ratio=1))[:, 0]
    last = draw_negatives(log, np.arange(2402, 2802), NegativeRules("batch", ratio=1))[:, 0]
    assert 140 < (first == 1).sum() < 260
    assert (last == 1).sum() > 390


def test_hard_negatives_are_what_neighbours_chose():
    """Two tribes that share nothing: hard negatives come from one's own tribe, uniform ones from both."""
    draw = np.random.default_rng(0)
    tribe = draw.integers(0, 2, 3000)
    users, items = tribe * 50 + draw.integers(0, 50, 3000), tribe * 100 + draw.integers(0, 100, 3000)
    log = InteractionLog(users, items)
    rows = np.arange(3000)
    shares = {}
    for name, share in (("all", 1.0), ("half", 0.5)):
        found = draw_negatives(log, rows, NegativeRules("hard", ratio=4, hard_share=share))
        shares[name] = (found // 100 == tribe[rows][:, None]).mean()
    uniform = draw_negatives(log, rows, NegativeRules("uniform", ratio=4))
    assert shares["all"] > 0.97
    assert 0.6 < shares["half"] < 0.85
    assert (uniform // 100 == tribe[rows][:, None]).mean() < 0.5


@pytest.mark.parametrize("how", WAYS)
def test_a_rows_negatives_do_not_depend_on_its_neighbours_and_follow_the_seed(how):
    log, _ = log_of()
    rules = NegativeRules(how, ratio=5)
    whole = draw_negatives(log, np.arange(log.rows), rules)
    some = np.array([3, 999, 1000, 3999])
    assert (draw_negatives(log, some, rules) == whole[some]).all()
    other = draw_negatives(log, np.arange(log.rows), NegativeRules(how, ratio=5, seed=1))
    assert (other != whole).mean() > 0.5


def test_who_has_had_nearly_everything_gets_what_is_left():
    users = np.concatenate([np.zeros(998), [1]]).astype(int)
    log = InteractionLog(users, np.concatenate([np.arange(998), [998]]))
    for how in WAYS:
        assert (draw_negatives(log, np.arange(5), NegativeRules(how, ratio=1)) == 998).all()
        assert draw_negatives(log, np.arange(2), NegativeRules(how, ratio=3)).tolist() == [[998, NONE, NONE]] * 2


def test_weights_undo_the_sampling():
    log, moments = log_of(600)
    rows = np.arange(log.rows)
    weights = stands_for(log, rows, 3)
    for row in rows[::17]:
        until = int((moments <= moments[row]).sum())
        possible = len(set(log.items[:until])) - len(set(log.items[:until][log.users[:until] == log.users[row]]))
        assert weights[row] == max(possible / min(3, max(possible, 1)), 1.0)
    plain, _ = log_of(3000, timed=False)
    found = draw_negatives(plain, np.arange(3000), NegativeRules(ratio=4))
    drawn = (found != NONE).sum(axis=1)
    weights = stands_for(plain, np.arange(3000), 4)
    possible = plain.existing(plain.seen) - plain.had_count(plain.users, plain.seen)
    assert (drawn * weights)[possible > 0] == pytest.approx(possible[possible > 0])


def test_probabilities_are_corrected_by_the_part_that_was_kept():
    """The true share of clicks is found again from a sample with one negative in fifty."""
    draw = np.random.default_rng(0)
    clicked = draw.random(2_000_000) < 0.01
    kept = clicked | (draw.random(len(clicked)) < 0.02)
    seen = clicked[kept].mean()
    assert seen > 0.3
    assert correct_probability(np.array([seen]), 0.02)[0] == pytest.approx(clicked.mean(), rel=0.02)
    assert correct_probability(np.array([0.0, 1.0]), 0.5).tolist() == [0.0, 1.0]
    with pytest.raises(InputError, match="above 0"):
        correct_probability(np.array([0.5]), 0.0)


def test_rules_that_make_no_sense_are_refused():
    log, _ = log_of(10)
    with pytest.raises(InputError, match="ratio"):
        draw_negatives(log, np.arange(2), NegativeRules(ratio=0))


@pytest.mark.parametrize("how", ["popularity", "batch"])
def test_what_was_only_looked_at_is_no_more_popular_by_it(how):
    """Items 0 to 9 are chosen, each by several users; item 10 stands in many rows of the log, none of which is a choice."""
    draw = np.random.default_rng(0)
    users = np.concatenate([np.repeat(np.arange(100), 3), np.full(3000, 100)])
    items = np.concatenate([draw.permuted(np.tile(np.arange(10), (100, 1)), axis=1)[:, :3].ravel(), np.full(3000, 10)])
    chosen = np.arange(3300) < 300
    log = InteractionLog(users, items, chosen=chosen)
    rules = NegativeRules(how, ratio=2)
    found = draw_negatives(log, np.flatnonzero(chosen), rules)
    assert (found >= 0).all()
    assert (found == 10).sum() == 0
    everything = draw_negatives(log, np.flatnonzero(chosen)[:9], replace(rules, ratio=8))
    assert ((everything == 10).sum(axis=1) == 1).all()  # where there is no other, it is taken: the user has not had it
