"""How far a measured number may be from the true one: intervals for shares and for anything computed from means of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from deepseek.errors import InputError

_BLOCKS = 20_000
_FEWEST_BLOCKS = 2_000
_DRAWS = (2_000, 20_000)
_IN_THE_TAIL = 40
"""So many draws are to lie below a bound, where `_DRAWS` allows: with fewer it would depend on them."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with what lies around it.

    Attributes:
        value: The estimate.
        low: The lower end.
        high: The upper end.
    """

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside: of a difference, whether it can be told from chance."""
        return self.low > 0 or self.high < 0


def wilson(successes: float, total: float, *, level: float = 0.95) -> Interval:
    """Return the interval of a share, right also near 0 and 1 and for few rows.

    Wilson, "Probable inference, the law of succession, and statistical inference" (JASA 1927). With no row at all it is 0 to 1.

    Args:
        successes: How many rows have it, 0 to `total`; no whole number where rows are weighted.
        total: How many rows there are.
        level: How often such intervals hold the true share, in (0, 1).

    Example:
        >>> interval = wilson(90, 100)
        >>> round(interval.low, 3), round(interval.high, 3)
        (0.826, 0.945)
    """
    if not total:
        return Interval(math.nan, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    reach = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return Interval(share, max(middle - reach, 0.0), min(middle + reach, 1.0))


def bootstrap(
    rows: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], *, draws: int = 2_000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return the percentile interval of anything computed from means over rows: a mean, an RMSE, a difference of two of them.

    Rows are drawn with replacement, whole, so that what belongs together stays together (Efron, "Bootstrap methods: another look at the
    jackknife", Annals of Statistics 1979). From 40,000 rows on the means of 20,000 to 30,000 random groups of equal size are drawn
    instead: their means spread as those of the rows do, at a cost that no longer grows. For more draws than 2,000 there are as many fewer
    groups, down to 2,000.

    Args:
        rows: float64 `[rows, k]`: what is averaged, such as the squared errors of two models.
        statistic: Turns means `[draws, k]` into numbers `[draws]`.
        draws: How many samples are drawn.
        level: How often such intervals hold the true value, in (0, 1).
        seed: Of the draws.

    Raises:
        InputError: There is no row.

    Example:
        >>> interval = bootstrap(np.arange(100.0)[:, None], lambda means: means[:, 0])
        >>> interval.low < 49.5 < interval.high
        True
    """
    if not len(rows):
        raise InputError("there is no row to draw from", hint="give at least one")
    generator = np.random.default_rng(seed)
    value = float(statistic(rows.mean(axis=0, keepdims=True))[0])
    drawn = _grouped(rows, generator, blocks=int(np.clip(_BLOCKS * _DRAWS[0] // max(draws, 1), _FEWEST_BLOCKS, _BLOCKS)))
    count = len(drawn)
    share = np.full(count, 1 / count)
    step = max(1, 4_000_000 // count)
    means = [generator.multinomial(count, share, size=min(step, draws - start)) @ drawn / count for start in range(0, draws, step)]
    low, high = np.quantile(statistic(np.concatenate(means)), [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def mean_bound(rows: np.ndarray, *, worst: float, alpha: float, seed: int = 0) -> float:
    """Return what a mean is above but for a probability of `alpha`, rare bad rows of which the sample has none reckoned with.

    Rows alone cannot tell of a mistake that one of a hundred makes where fifty were drawn, so a bootstrap of them is sure too early. The
    bound of Gaffke ("Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative variable", Mathematical
    Methods of Statistics 2005; see Phan, Thomas and Learned-Miller, "Towards practical mean bounds for small samples", ICML 2021) weighs
    the rows, and one more that is as bad as any can be, at random. Of zeros and ones it is Clopper and Pearson's (1934), of differences
    of -1, 0 and 1 it is above 0 where the exact sign test is sure.

    Args:
        rows: The values, `[rows]`, at least one.
        worst: The least that a value can be; the least of `rows` where that is smaller.
        alpha: In (0, 0.5); below 0.002 the bound rests on fewer than 40 of 20,000 draws.
        seed: Of the draws.

    Raises:
        InputError: There is no row.

    Example:
        >>> round(mean_bound(np.ones(50), worst=0.0, alpha=0.05), 2)  # 0.05 ** (1 / 50)
        0.94
    """
    return float(np.quantile(floored_means(rows, worst=worst, draws=draws_for(alpha), seed=seed), alpha))


def draws_for(alpha: float) -> int:
    """Return how many draws tell a quantile of `alpha`, in (0, 0.5)."""
    return int(np.clip(_IN_THE_TAIL / alpha, *_DRAWS))


def floored_means(rows: np.ndarray, *, worst: float, draws: int, seed: int) -> np.ndarray:
    """Return randomly weighted means of rows and one more that is the worst, `[draws]`: what `mean_bound` takes a quantile of.

    Args:
        rows: The values, `[rows]`, at least one.
        worst: The least that a value can be.
        draws: How many means.
        seed: Of the draws.

    Raises:
        InputError: There is no row.
    """
    if not len(rows):
        raise InputError("there is no row to take a mean of", hint="give at least one")
    generator = np.random.default_rng(seed)
    values = np.append(_grouped(np.asarray(rows, dtype=np.float64)[:, None], generator)[:, 0], min(worst, float(rows.min())))
    step = max(1, 4_000_000 // len(values))
    weights = (generator.standard_exponential((min(step, draws - start), len(values))) for start in range(0, draws, step))
    return np.concatenate([weight @ values / weight.sum(axis=1) for weight in weights])


def _grouped(rows: np.ndarray, generator: np.random.Generator, *, blocks: int = _BLOCKS) -> np.ndarray:
    size = len(rows) // blocks
    if size < 2:
        return rows
    count = len(rows) // size  # at most half as many again: all but a few rows have a say
    chosen = generator.permutation(len(rows))[: count * size]
    return np.asarray(rows[chosen].reshape(count, size, -1).mean(axis=1))
