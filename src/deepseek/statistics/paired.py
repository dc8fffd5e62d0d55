"""Whether one model is better than another on the same rows, or only luckier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from deepseek.errors import InputError
from deepseek.statistics.intervals import Interval, draws_for, floored_means
from deepseek.statistics.two_sample import chi_square_tail

EXACT_ROWS = 10_000
LEAST_OF_A_CLASS = 2
"""One row has no variance."""
_ROUNDING = 1e-12
"""Placements are sums of weights in another order for each model: what differs by less is equal."""


@dataclass(frozen=True, slots=True)
class McNemar:
    """What McNemar's test found.

    Attributes:
        only_first: Rows that only the first model has right.
        only_second: Rows that only the second has right.
        p: The probability of at least so uneven a split where both are equally good.
    """

    only_first: int
    only_second: int
    p: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Test whether two models are right equally often, on the same rows.

    Only rows on which they differ tell anything (McNemar, "Note on the sampling error of the difference between correlated proportions",
    Psychometrika 1947). Up to 10,000 of those the binomial probability is exact; beyond, Edwards' corrected χ² (1948) is as good.

    Args:
        first: Whether the first model is right, boolean `[rows]`.
        second: The same for the second.

    Example:
        >>> mcnemar(np.array([True] * 8 + [False]), np.array([False] * 8 + [True])).p
        0.0390625
    """
    one, two = int((first & ~second).sum()), int((second & ~first).sum())
    total, least = one + two, min(one, two)
    if not total:
        return McNemar(one, two, 1.0)
    if total > EXACT_ROWS:
        return McNemar(one, two, chi_square_tail(max(abs(one - two) - 1, 0) ** 2 / total, 1))
    halves = total * math.log(2)
    tail = math.fsum(math.exp(math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) - halves) for k in range(least + 1))
    return McNemar(one, two, min(2 * tail, 1.0))


def auc_difference(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray, *, level: float = 0.95, weight: np.ndarray | None = None
) -> tuple[Interval, float]:
    """Return the difference of two models' areas under the ROC curve on the same rows, with its interval and probability.

    DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating characteristic curves"
    (Biometrics 1988), by one sort as in Sun and Xu, "Fast implementation of DeLong's algorithm" (IEEE Signal Processing Letters 2014).
    Of weighted rows the areas are those of weights, and each row's placement counts in the variance by the square of its weight, as in
    any mean of weighted rows; equal weights give DeLong's own.

    Args:
        first: The first model's scores, higher for the positive class, `[rows]`.
        second: The second's.
        labels: Whether a row is positive, boolean `[rows]`; both classes at least twice, with a weight above zero.
        level: How often such intervals hold the true difference, in (0, 1).
        weight: What each row weighs, `[rows]`, not negative; all alike where not given.

    Returns:
        First less second, and the two-sided probability that there is no difference.

    Raises:
        InputError: A class has fewer than two rows with a weight above zero.
    """
    weights = np.ones(len(labels)) if weight is None else np.asarray(weight, dtype=np.float64)
    groups = _classes(labels, weights)
    shares = [weights[rows] / weights[rows].sum() for rows in groups]
    placed = [_placements(np.asarray(scores, dtype=np.float64), groups, shares) for scores in (first, second)]
    gains = [np.where(np.abs(gain := placed[0][side] - placed[1][side]) > _ROUNDING, gain, 0.0) for side in (0, 1)]
    difference = float(gains[0] @ shares[0])
    spread = math.sqrt(sum(_variance(gain, share) for gain, share in zip(gains, shares, strict=True)))
    normal = NormalDist()
    reach = normal.inv_cdf((1 + level) / 2) * spread
    p = math.erfc(abs(difference) / spread / math.sqrt(2)) if spread > 0 else 1.0 if difference == 0 else 0.0
    return Interval(difference, difference - reach, difference + reach), p


def auc_gain_bound(first: np.ndarray, second: np.ndarray, labels: np.ndarray, *, alpha: float, seed: int = 0) -> float:
    """Return what the first model's area is above the second's by but for a probability of `alpha`, on the same rows.

    DeLong's interval takes the placements' means for normal, and their variance for known. With few rows of a class, or where the first
    model ranks a rare kind of row badly of which there is none, it is sure too early. Here the two classes' placements are each weighed
    at random with one more row that the first model places last and the second one first (`mean_bound`).

    Args:
        first: The first model's scores, higher for the positive class, `[rows]`.
        second: The second's.
        labels: Whether a row is positive, boolean `[rows]`; both classes at least twice.
        alpha: In (0, 0.5).
        seed: Of the draws.

    Raises:
        InputError: A class has fewer than two rows.
    """
    groups = _classes(labels, np.ones(len(labels)))
    shares = [np.full(len(rows), 1 / len(rows)) for rows in groups]
    one, two = (_placements(np.asarray(scores, dtype=np.float64), groups, shares) for scores in (first, second))
    gains = [one[side] - two[side] for side in (0, 1)]
    drawn = [floored_means(gain, worst=-1.0, draws=draws_for(alpha), seed=seed + side) for side, gain in enumerate(gains)]
    return float(np.quantile(drawn[0] + drawn[1], alpha)) - float(gains[0].mean())


def _classes(labels: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """Return the positive rows and the negative ones that weigh something."""
    groups = [np.flatnonzero(labels & (weights > 0)), np.flatnonzero(~labels & (weights > 0))]
    if min(map(len, groups)) < LEAST_OF_A_CLASS:
        counts = f"{len(groups[0]):,} positive rows and {len(groups[1]):,} negative ones"
        raise InputError(f"areas under the curve cannot be compared on {counts}", hint=f"give {LEAST_OF_A_CLASS} of each at least")
    return groups


def _placements(scores: np.ndarray, groups: Sequence[np.ndarray], shares: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return for each positive row the share of negatives below it, and for each negative the share of positives above."""
    ones, zeros = (scores[rows] for rows in groups)
    return _share_below(ones, zeros, shares[1]), 1 - _share_below(zeros, ones, shares[0])


def _share_below(values: np.ndarray, others: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return what share of others each value is above; equal ones count half."""
    order = np.argsort(others, kind="stable")
    ranked, summed = others[order], np.concatenate(([0.0], np.cumsum(share[order])))
    return np.asarray((summed[np.searchsorted(ranked, values, "left")] + summed[np.searchsorted(ranked, values, "right")]) / 2)


def _variance(values: np.ndarray, share: np.ndarray) -> float:
    """Return the variance of the mean of values whose shares add up to 1."""
    return float((share**2 * (values - values @ share) ** 2).sum()) * len(values) / (len(values) - 1)
