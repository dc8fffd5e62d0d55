"""Whether one model is better than another on the same rows, or only luckier."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from deepseek.statistics.association import mid_ranks
from deepseek.statistics.intervals import Interval
from deepseek.statistics.two_sample import chi_square_tail

EXACT_ROWS = 10_000


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


def auc_difference(first: np.ndarray, second: np.ndarray, labels: np.ndarray, *, level: float = 0.95) -> tuple[Interval, float]:
    """Return the difference of two models' areas under the ROC curve on the same rows, with its interval and probability.

    DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating characteristic curves"
    (Biometrics 1988), by mid-ranks as in Sun and Xu, "Fast implementation of DeLong's algorithm" (IEEE Signal Processing Letters 2014).

    Args:
        first: The first model's scores, higher for the positive class, `[rows]`.
        second: The second's.
        labels: Whether a row is positive, boolean `[rows]`; both classes at least twice.
        level: How often such intervals hold the true difference, in (0, 1).

    Returns:
        First less second, and the two-sided probability that there is no difference.
    """
    ones, zeros = np.flatnonzero(labels), np.flatnonzero(~labels)
    parts = [_placements(np.asarray(scores, dtype=np.float64), ones, zeros) for scores in (first, second)]
    difference = float(parts[0][0].mean() - parts[1][0].mean())
    positive, negative = (parts[0][place] - parts[1][place] for place in (0, 1))
    spread = math.sqrt(float(positive.var(ddof=1)) / len(ones) + float(negative.var(ddof=1)) / len(zeros))
    normal = NormalDist()
    reach = normal.inv_cdf((1 + level) / 2) * spread
    p = math.erfc(abs(difference) / spread / math.sqrt(2)) if spread > 0 else 1.0 if difference == 0 else 0.0
    return Interval(difference, difference - reach, difference + reach), p


def _placements(scores: np.ndarray, ones: np.ndarray, zeros: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each positive row the share of negatives below it, and for each negative the share of positives above."""
    together = mid_ranks(np.concatenate((scores[ones], scores[zeros])))
    above = (together[: len(ones)] - mid_ranks(scores[ones])) / len(zeros)
    below = 1 - (together[len(ones) :] - mid_ranks(scores[zeros])) / len(ones)
    return above, below
