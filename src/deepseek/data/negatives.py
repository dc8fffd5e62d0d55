"""Negatives for recommenders: items that a user has not chosen, drawn for each choice, as things stood at that time.

A log of clicks or purchases says what was chosen and never what was not. Which items are drawn for the latter decides what a model learns;
and an item that the user chose later is one that could be drawn at the time: to leave it out would tell the model the future.

Everything is decided by positions in the log in the order of time. A choice at position `p` sees the rows before `seen[p]`: all rows up to
its own point in time, those of the same moment among them. What is popular, what exists, and what the user has had are counted in these
rows alone, exactly, by binary search in sorted positions; memory is some 100 bytes for each row of the log.

Legend of shapes: `n` rows of the log · `b` choices · `r` negatives for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from deepseek.errors import InputError
from deepseek.statistics import mix64

Way = Literal["uniform", "popularity", "batch", "hard"]
NONE = -1
"""Stands where there is no negative: the user has had every item."""
_TRIES = 24
_HARD_TRIES = 8
_NEVER = 1e-12
"""What an item that was never chosen counts for where there is no other left."""


@dataclass(frozen=True)
class NegativeRules:
    """How negatives are drawn.

    Args:
        how: `uniform` over the items that exist; `popularity` by how often each was chosen, to the power of `power` (Mikolov et al.,
            "Distributed representations of words and phrases", NeurIPS 2013, https://arxiv.org/abs/1310.4546); `batch` as the other choices
            of a batch would give them, which is by popularity itself (Yi et al., "Sampling-bias-corrected neural modeling", RecSys 2019);
            `hard` among what was chosen by users who share a choice with the user.
        ratio: Negatives for each choice, 1 or more; they differ from one another.
        power: The power of `popularity`, 0 (uniform) to 1.
        hard_share: With `hard`, the part of the negatives that is drawn so; the others are uniform.
        seed: Says which.
    """

    how: Way = "uniform"
    ratio: int = 4
    power: float = 0.75
    hard_share: float = 0.5
    seed: int = 0


class InteractionLog:
    """A log of choices in the order of time, ready for questions about any moment of it.

    Args:
        users: Each row's user as a code from 0, int `[n]`, in the order of time.
        items: Each row's item as a code from 0, int `[n]`.
        moments: Each row's point in time, ascending, `[n]`; not given where the log has none: then every row is seen by every choice.
        chosen: Which rows are choices, bool `[n]`; all where not given. Of the others users have had the item, and it exists, but they make
            nothing popular and nobody a neighbour.

    Attributes:
        seen: How many rows each choice sees, int64 `[n]`.
    """

    def __init__(
        self, users: np.ndarray, items: np.ndarray, moments: np.ndarray | None = None, *, chosen: np.ndarray | None = None
    ) -> None:
        self.users, self.items = users.astype(np.int64), items.astype(np.int64)
        self.rows = len(users)
        self.item_count = int(items.max()) + 1 if len(items) else 0
        self.seen = np.full(self.rows, self.rows) if moments is None else np.searchsorted(moments, moments, side="right").astype(np.int64)
        pairs = self.users * max(self.item_count, 1) + self.items
        self._pairs, self._first_pair = np.unique(pairs, return_index=True)
        self._ages_of_pairs = np.sort(self.users[self._first_pair] * (self.rows + 1) + self._first_pair)
        _, first_item = np.unique(self.items, return_index=True)
        self._by_age = np.argsort(first_item, kind="stable")  # items, the one that came first in front
        self._ages = first_item[self._by_age]
        self._choices = np.arange(self.rows) if chosen is None else np.flatnonzero(chosen)
        self._of_items = _Places(self.items, self.item_count, self._choices)
        self._of_users = _Places(self.users, int(users.max()) + 1 if len(users) else 0, self._choices)

    def had(self, users: np.ndarray, items: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Whether users had chosen items in the rows that are seen, bool of the arguments' shape."""
        pairs = users * self.item_count + items
        places = np.minimum(np.searchsorted(self._pairs, pairs), len(self._pairs) - 1)
        return np.asarray((self._pairs[places] == pairs) & (self._first_pair[places] < seen))

    def counts(self, items: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Return how often items were chosen in the rows that are seen, int64."""
        return self._of_items.count(items, seen)

    def existing(self, seen: np.ndarray) -> np.ndarray:
        """Return how many items there are in the rows that are seen, int64."""
        return np.searchsorted(self._ages, seen)

    def had_count(self, users: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Return how many different items users had chosen in the rows that are seen, int64 `[b]`."""
        ends = np.searchsorted(self._ages_of_pairs, users * (self.rows + 1) + seen)
        return np.asarray(ends - np.searchsorted(self._ages_of_pairs, users * (self.rows + 1)))

    def allowed(self, user: int, seen: int) -> np.ndarray:
        """Return every item that may be drawn for a user who sees so many rows, int64."""
        items = self._by_age[: int(np.searchsorted(self._ages, seen))]
        return np.asarray(items[~self.had(np.full(len(items), user), items, np.full(len(items), seen))])

    def uniform(self, seen: np.ndarray, draw: np.ndarray) -> np.ndarray:
        """Return an item of those that exist for each draw in [0, 1)."""
        return np.asarray(self._by_age[_index(draw, self.existing(seen))])

    def by_row(self, seen: np.ndarray, draw: np.ndarray) -> np.ndarray:
        """Return the item of a random choice: an item as often as it was chosen; there must be one."""
        return np.asarray(self.items[self._choices[_index(draw, np.searchsorted(self._choices, seen))]])

    def by_neighbours(self, users: np.ndarray, seen: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Return an item of somebody who shares a choice with the user: two steps of a random walk over the rows that are seen.

        Args:
            users: Whose, `[k]`.
            seen: What is seen, `[k]`.
            draws: Three numbers in [0, 1) for each, `[3, k]`.
        """
        shared = self.items[self._of_users.pick(users, seen, draws[0])]
        others = self.users[self._of_items.pick(shared, seen, draws[1])]
        return np.asarray(self.items[self._of_users.pick(others, seen, draws[2])])


class _Places:
    """Where in the log each of several codes stands, among some of its rows, ascending."""

    def __init__(self, codes: np.ndarray, count: int, rows: np.ndarray) -> None:
        self._places = rows[np.argsort(codes[rows], kind="stable")]
        self._starts = np.concatenate(([0], np.cumsum(np.bincount(codes[rows], minlength=count))))
        self._stride = len(codes) + 1
        self._keys = codes[self._places] * self._stride + self._places

    def count(self, codes: np.ndarray, seen: np.ndarray) -> np.ndarray:
        return np.asarray(np.searchsorted(self._keys, codes * self._stride + seen) - self._starts[codes])

    def pick(self, codes: np.ndarray, seen: np.ndarray, draw: np.ndarray) -> np.ndarray:
        """Return a random one of the places of each code that are seen; there must be one."""
        return np.asarray(self._places[self._starts[codes] + _index(draw, self.count(codes, seen))])


def draw_negatives(log: InteractionLog, rows: np.ndarray, rules: NegativeRules) -> np.ndarray:
    """Return negatives for choices: items that exist, that the user has not had, and that differ; as things stood at the choice.

    Each number is a function of (seed, row, place), so that a row's negatives do not depend on which others are drawn with it. Where luck
    does not find enough (a user who has had nearly everything), the allowed items are listed and drawn from exactly.

    Args:
        log: The log.
        rows: Which of its rows, int64 `[b]`.
        rules: How.

    Returns:
        int64 `[b, r]`, -1 where the user has had so many items that there is no other.
    """
    if rules.ratio < 1 or not 0 <= rules.power <= 1 or not 0 <= rules.hard_share <= 1:
        raise InputError(f"negatives are asked for by {rules}", hint="ratio is 1 or more, power and hard_share lie between 0 and 1")
    found = np.full((len(rows), rules.ratio), NONE, dtype=np.int64)
    users, seen = log.users[rows], log.seen[rows]
    for attempt in range(_TRIES):
        row, place = np.nonzero(found == NONE)
        if not len(row):
            break
        items, good = _propose(
            log, (users[row], seen[row]), _keys(rows[row], place, attempt, rules), place=place, rules=rules, attempt=attempt
        )
        good &= ~log.had(users[row], items, seen[row])
        found[row[good], place[good]] = items[good]
        _forget_repeats(found)
    for lacking in np.flatnonzero((found == NONE).any(axis=1)).tolist():
        allowed = log.allowed(int(users[lacking]), int(seen[lacking]))
        _fill(found[lacking], allowed, log, int(seen[lacking]), key=int(rows[lacking]), rules=rules)
    return found


def stands_for(log: InteractionLog, rows: np.ndarray, ratio: int) -> np.ndarray:
    """Return how many items each uniform negative stands for: those that might have been drawn, by those that were; float64 `[b]`.

    As the weight of negatives it undoes the sampling: the weighted rows are an unbiased sample of all pairs, and probabilities that are
    learned from them need no correction.

    Args:
        log: The log.
        rows: The rows of the choices, `[b]`.
        ratio: Negatives for each.
    """
    users, seen = log.users[rows], log.seen[rows]
    possible = log.existing(seen) - log.had_count(users, seen)
    return np.asarray(np.maximum(possible / np.minimum(ratio, np.maximum(possible, 1)), 1.0))


def correct_probability(probability: np.ndarray, kept: float) -> np.ndarray:
    """Return what probabilities would be if no negative had been left out.

    A model that learned from all choices and a part `w` of the negatives says p; the odds are 1/w times too high, and the probability is
    p / (p + (1 - p) / w) (King and Zeng, "Logistic regression in rare events data", 2001; He et al., "Practical lessons from predicting
    clicks on ads", ADKDD 2014). The order of items stays as it is.

    Args:
        probability: What the model says, 0 to 1, of any shape.
        kept: The part of all possible negatives that was drawn, above 0 to 1.

    Raises:
        InputError: The part is not above 0 and at most 1.

    Example:
        >>> correct_probability(np.array([0.5]), 0.01).round(4).tolist()
        [0.0099]
    """
    if not 0 < kept <= 1:
        raise InputError(f"the part of negatives that was kept is {kept}", hint="allowed: above 0, at most 1")
    given = np.asarray(probability, dtype=np.float64)
    return np.asarray(given / (given + (1 - given) / kept))


def _propose(
    log: InteractionLog, asked: tuple[np.ndarray, np.ndarray], keys: np.ndarray, *, place: np.ndarray, rules: NegativeRules, attempt: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return an item for each wanted negative, and whether it is accepted."""
    users, seen = asked
    draw = _unit(keys, 0)
    accepted = np.ones(len(users), dtype=bool)
    if rules.how == "batch":
        return log.by_row(seen, draw), accepted
    if rules.how == "popularity":
        items = log.by_row(seen, draw)
        # of rows drawn alike a row of an item with count c is kept with c^(power - 1): that leaves c^power
        return items, _unit(keys, 1) < log.counts(items, seen).astype(np.float64) ** (rules.power - 1.0)
    items = log.uniform(seen, draw)
    if rules.how == "hard" and attempt < _HARD_TRIES:
        hard = place < round(rules.hard_share * rules.ratio)
        draws = np.stack([_unit(keys[hard], stream) for stream in (1, 2, 3)])
        items[hard] = log.by_neighbours(users[hard], seen[hard], draws)
    return items, accepted


def _fill(found: np.ndarray, allowed: np.ndarray, log: InteractionLog, seen: int, *, key: int, rules: NegativeRules) -> None:
    """Fill the empty places of one choice from the list of allowed items, by the weights of the rules."""
    allowed = allowed[~np.isin(allowed, found)]
    places = np.flatnonzero(found == NONE)[: len(allowed)]
    weights = np.ones(len(allowed))
    if rules.how in ("batch", "popularity"):
        power = 1.0 if rules.how == "batch" else rules.power
        counts = log.counts(allowed, np.full(len(allowed), seen)).astype(np.float64)
        weights = np.where(counts > 0, counts, _NEVER) ** power
    draws = _unit(mix64(mix64(np.array([key], np.uint64), rules.seed + 1) ^ allowed.astype(np.uint64), rules.seed), 0)
    # the largest of draw^(1/weight): a weighted sample without repeats (Efraimidis and Spirakis 2006)
    order = np.argsort(np.log1p(-draws) / weights, kind="stable")[::-1]
    found[places] = allowed[order[: len(places)]]


def _forget_repeats(found: np.ndarray) -> None:
    """Take out what stands in a row a second time; the first one stays."""
    for column in range(1, found.shape[1]):
        repeated = (found[:, :column] == found[:, column : column + 1]).any(axis=1)
        found[repeated, column] = NONE


def _keys(rows: np.ndarray, place: np.ndarray, attempt: int, rules: NegativeRules) -> np.ndarray:
    numbers = (rows.astype(np.uint64) * np.uint64(rules.ratio) + place.astype(np.uint64)) * np.uint64(_TRIES) + np.uint64(attempt)
    return mix64(numbers, rules.seed)


def _unit(keys: np.ndarray, stream: int) -> np.ndarray:
    """Return numbers in [0, 1) with 53 bits."""
    return (mix64(keys, stream) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _index(draw: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return a place among `size` for each draw; rounding must not lead beyond the last."""
    return np.asarray(np.minimum((draw * size).astype(np.int64), size - 1))
