"""Tests and intervals that may be looked at after every row, and stopped whenever one likes: what a fixed test may not.

A usual test holds for one look at a number of rows that was settled before; looked at again and again it finds a difference sooner or later
where there is none. What is here holds at all times at once: the probability that it is ever wrong is at most `alpha`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from deepseek.statistics.intervals import Interval

CONCENTRATION = 1_000.0
"""Of the prior over shares in `MultinomialTest`: departures of about `sqrt(1 / CONCENTRATION)` are looked for, three points of a half."""
_TIMES = np.geomspace(1.1, 100.0, 40)


def tuning(planned: float, *, alpha: float = 0.05) -> float:
    """Return how wide a mixture of effects has to be, per row, so that its interval is tightest after `planned` rows.

    The optimum of the normal mixture, by its usual approximation (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central
    limit theory and asymptotic confidence sequences", Annals of Statistics 2024, https://arxiv.org/abs/2103.06476, appendix B.2). The
    interval stays valid at every other number of rows; it is a few per cent wider there.

    Args:
        planned: After so many rows, above 0.
        alpha: Largest probability that the interval is ever wrong, in (0, 1).
    """
    evidence = -2 * math.log(alpha)
    return (evidence + math.log(evidence + 1)) / planned


def anytime_interval(value: float, variance: float, *, ratio: float, alpha: float = 0.05) -> Interval:
    """Return an interval that holds the true value at all times at once, with a probability of at least `1 - alpha`.

    The normal mixture: all values that the mixture sequential probability ratio test does not refuse (Robbins, "Statistical methods related
    to the law of the iterated logarithm", 1970; Johari, Koomen, Pekelis and Walsh, "Peeking at A/B tests", KDD 2017, and "Always valid
    inference", Operations Research 2022, https://arxiv.org/abs/1512.04922; Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform,
    nonparametric, nonasymptotic confidence sequences", Annals of Statistics 2021, https://arxiv.org/abs/1810.08240). With an estimated
    variance it is as good as the normal approximation, hence for some dozens of rows or more.

    Args:
        value: The estimate.
        variance: Its variance.
        ratio: The variance of the mixture over that of the estimate: `tuning(…)` times the rows so far.
        alpha: Largest probability that the interval is ever wrong, in (0, 1).

    Example:
        >>> interval = anytime_interval(0.1, 0.001, ratio=8.0)
        >>> interval.excludes_zero
        True
    """
    if not ratio > 0 or not math.isfinite(variance):
        return Interval(value, -math.inf, math.inf)
    reach = math.sqrt(variance * (1 + ratio) / ratio * (math.log1p(ratio) - 2 * math.log(alpha)))
    return Interval(value, value - reach, value + reach)


def anytime_p(value: float, variance: float, *, ratio: float) -> float:
    """Return an always-valid probability of an estimate where the true value is 0; the smallest one seen so far may be kept.

    Args:
        value: The estimate.
        variance: Its variance.
        ratio: As for `anytime_interval`.
    """
    if not ratio > 0 or not math.isfinite(variance):
        return 1.0
    if not variance:
        return 0.0 if value else 1.0
    evidence = value * value / variance * ratio / (1 + ratio) / 2 - math.log1p(ratio) / 2
    return math.exp(-max(evidence, 0.0))


def rows_needed(effect: float, row_variance: float, *, tuned: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return after how many rows an always-valid interval leaves 0 out with this power, where the true value is `effect`.

    As if it were looked at only then; who looks all the time is more likely to have stopped before.

    Args:
        effect: The true value, not 0.
        row_variance: What one row adds: the variance of the estimate times its rows.
        tuned: What `tuning` returned.
        alpha: Largest probability that the interval is ever wrong.
        power: Probability of seeing it, in (0, 1).

    Example:
        >>> round(rows_needed(0.1, 1.0, tuned=tuning(1_000)))
        1497
    """
    if not effect or not math.isfinite(row_variance):
        return math.inf
    z = NormalDist().inv_cdf(power)

    def sees(rows: float) -> bool:
        variance = row_variance / rows
        return abs(effect) - z * math.sqrt(variance) >= anytime_interval(0.0, variance, ratio=tuned * rows, alpha=alpha).high

    few, many = 1.0, 1e15
    if sees(few) or not sees(many):
        return few if sees(few) else math.inf
    while many / few > 1 + 1e-6:
        middle = math.sqrt(few * many)
        few, many = (few, middle) if sees(middle) else (middle, many)
    return many


def multinomial_evidence(counts: Sequence[float], shares: Sequence[float], *, concentration: float = CONCENTRATION) -> float:
    """Return the logarithm of the evidence that things were not divided by these shares.

    Where they were, it ever reaches `log(1 / alpha)` with a probability of at most `alpha`.

    The Bayes factor of a Dirichlet prior about the shares against the shares themselves, which is a martingale where they are right
    (Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022, https://arxiv.org/abs/2011.03567). Evidence of
    several parts with shares of their own adds up.

    Args:
        counts: How many went to each arm.
        shares: How large a share was to go there, above 0, adding up to 1.
        concentration: How near to these shares others are looked for: the larger, the nearer.

    Example:
        >>> multinomial_evidence([500, 500], [0.5, 0.5]) < 0 < multinomial_evidence([600, 400], [0.5, 0.5])
        True
    """
    prior = [concentration * share for share in shares]
    total = math.lgamma(concentration) - math.lgamma(concentration + sum(counts))
    each = (math.lgamma(a + x) - math.lgamma(a) - x * math.log(share) for a, x, share in zip(prior, counts, shares, strict=True))
    return total + math.fsum(each)


def above_evidence(hits: float, total: float, *, limit: float) -> float:
    """Return the logarithm of the evidence that a share is above a limit.

    Where it is not, the evidence ever reaches `log(1 / alpha)` with a probability of at most `alpha`. A mixture of
    likelihood ratios of greater shares against the limit itself: a supermartingale for any share up to the limit (Ramdas, Grünwald, Vovk
    and Shafer, "Game-theoretic statistics and safe anytime-valid inference", Statistical Science 2023).

    Args:
        hits: How many have it.
        total: Of how many.
        limit: The share, in (0, 1).

    Example:
        >>> above_evidence(50, 1000, limit=0.01) > 3 > above_evidence(12, 1000, limit=0.01)
        True
    """
    return _evidence(hits, total, limit, np.minimum(limit * _TIMES, (limit + 9) / 10))


def below_evidence(hits: float, total: float, *, limit: float) -> float:
    """Return the logarithm of the evidence that a share is below a limit, as `above_evidence` does that it is above one.

    Args:
        hits: How many have it.
        total: Of how many.
        limit: The share, in (0, 1).

    Example:
        >>> below_evidence(0, 1000, limit=0.01) > 3 > below_evidence(8, 1000, limit=0.01)
        True
    """
    return _evidence(hits, total, limit, limit / _TIMES)


def _evidence(hits: float, total: float, limit: float, others: np.ndarray) -> float:
    logs = hits * np.log(others / limit) + (total - hits) * (np.log1p(-others) - math.log1p(-limit))
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))
