"""How far a measured number may be from the true one: intervals for shares and for anything computed from means of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

_BLOCKS = 20_000


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
    instead: their means spread as those of the rows do, at a cost that no longer grows.

    Args:
        rows: float64 `[rows, k]`: what is averaged, such as the squared errors of two models.
        statistic: Turns means `[draws, k]` into numbers `[draws]`.
        draws: How many samples are drawn.
        level: How often such intervals hold the true value, in (0, 1).
        seed: Of the draws.

    Example:
        >>> interval = bootstrap(np.arange(100.0)[:, None], lambda means: means[:, 0])
        >>> interval.low < 49.5 < interval.high
        True
    """
    generator = np.random.default_rng(seed)
    value = float(statistic(rows.mean(axis=0, keepdims=True))[0])
    drawn = _grouped(rows, generator)
    count = len(drawn)
    share = np.full(count, 1 / count)
    step = max(1, 4_000_000 // count)
    means = [generator.multinomial(count, share, size=min(step, draws - start)) @ drawn / count for start in range(0, draws, step)]
    low, high = np.quantile(statistic(np.concatenate(means)), [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _grouped(rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    size = len(rows) // _BLOCKS
    if size < 2:
        return rows
    count = len(rows) // size  # at most half as many again: all but a few rows have a say
    chosen = generator.permutation(len(rows))[: count * size]
    return np.asarray(rows[chosen].reshape(count, size, -1).mean(axis=1))
