"""Where a model is worse: the rows with some value in common whose errors are larger than those of the others, beyond chance.

Every candidate is tested, and the p-values are corrected for how many there are (Holm, *Scandinavian Journal of Statistics* 6, 1979), so
that on noise nothing is found in 95 of 100 cases, however many columns there are.

Legend of shapes: `n` rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from deepseek.statistics.association import mid_ranks
from deepseek.statistics.intervals import Interval, bootstrap, wilson

LEAST_ROWS = 30
LEVEL = 0.05
"""The chance of calling any group worse where none is."""
_ROUNDING = 1e-12
MOST_VALUES = 20
"""Of a column's values only the most frequent ones are tested by themselves."""

PAIRED_FEATURES = 30
"""Pairs are looked for among so many columns, those with the most uneven errors first: the number of tests stays bounded."""

_ALREADY = 1.2
"""By how much more a pair has to be worse than its values by themselves."""


@dataclass(frozen=True)
class Feature:
    """A column cut into values: the code of each row, int `[n]` (below zero: none), and what each code means."""

    codes: np.ndarray
    labels: Sequence[str]


@dataclass(frozen=True)
class Slice:
    """Rows with something in common.

    Attributes:
        conditions: The columns and their values, one or two.
        rows: How many rows there are.
        error: Their mean error.
        others: The mean error of all other rows.
        p_value: How likely so large a difference is by chance, corrected for all tests made.
    """

    conditions: tuple[tuple[str, str], ...]
    rows: int
    error: float
    others: float
    p_value: float


@dataclass(frozen=True)
class Group:
    """Rows that share a value of one column.

    Attributes:
        label: The value.
        rows: How many rows there are.
        error: Their mean error, with a 95 % interval; nothing of no rows.
        others: The mean error of all other rows.
        p_value: How likely so large a difference is by chance, corrected for all groups of the column that were tested; nothing where a
            group, or its rest, is too small for a test.
    """

    label: str
    rows: int
    error: Interval | None
    others: float
    p_value: float | None

    @property
    def surely_worse(self) -> bool:
        """Whether its errors are larger than the others', beyond chance."""
        return self.p_value is not None and self.p_value < LEVEL


def group_errors(
    errors: np.ndarray, feature: Feature, *, least_rows: int = LEAST_ROWS, weight: np.ndarray | None = None, seed: int = 0
) -> list[Group]:
    """Return every value of a column with the errors of its rows: those that are surely worse first, then by the lower end of the error.

    All groups are told of, the small ones too, with intervals that say how little is known of them; only groups of enough rows are tested,
    as `worst_slices` tests.

    Args:
        errors: One error a row, float `[n]`, larger for worse; NaN for none.
        feature: The column's values.
        least_rows: The fewest rows of a group that is tested, and of its rest.
        weight: What each row weighs in a mean, `[n]`, not negative; all alike where not given.
        seed: Of the draws for intervals of errors that are not 0 and 1.
    """
    known = np.isfinite(errors)
    codes, kept = feature.codes[known], errors[known]
    weights = None if weight is None else np.asarray(weight, dtype=np.float64)[known]
    test = _Test(kept, weights)
    masks = [codes == code for code in range(len(feature.labels))]
    sizes = [int(mask.sum()) for mask in masks]
    fit = np.array([least_rows <= size <= len(kept) - least_rows for size in sizes], dtype=bool)
    numbers = [test(mask) if size else ((0, math.nan, math.nan), 1.0) for mask, size in zip(masks, sizes, strict=True)]
    corrected = np.full(len(masks), np.nan)
    corrected[fit] = _holm(np.array([p for _, p in numbers])[fit])
    groups = [
        Group(
            label,
            size,
            _mean_interval(kept[mask], None if weights is None else weights[mask], seed) if size else None,
            others,
            None if math.isnan(p) else float(p),
        )
        for label, mask, size, ((_, _, others), _), p in zip(feature.labels, masks, sizes, numbers, corrected.tolist(), strict=True)
    ]
    return sorted(groups, key=lambda one: (not one.surely_worse, -(one.error.low if one.error else -math.inf), one.label))


def _mean_interval(errors: np.ndarray, weight: np.ndarray | None, seed: int) -> Interval:
    if weight is None and np.isin(errors, (0.0, 1.0)).all():
        return wilson(float(errors.sum()), len(errors))
    weights = np.ones(len(errors)) if weight is None else weight
    if not weights.any():
        return Interval(math.nan, math.nan, math.nan)
    pairs = np.column_stack([errors * weights, weights])
    with np.errstate(invalid="ignore"):
        return bootstrap(pairs, lambda means: means[:, 0] / np.where(means[:, 1] > 0, means[:, 1], np.nan), seed=seed)


def worst_slices(
    errors: np.ndarray,
    features: Mapping[str, Feature],
    *,
    least_rows: int = LEAST_ROWS,
    level: float = LEVEL,
    pairs: bool = True,
    weight: np.ndarray | None = None,
) -> tuple[list[Slice], int]:
    """Return the slices of one or two columns whose rows have larger errors than the others, the worst first.

    Errors of 0 and 1 are tested exactly (Fisher's test); others by their ranks (Mann and Whitney, 1947), which outliers do not sway, and
    the mean has to be larger too. A pair is told only where it is worse than either of its values by itself. Weights count in the means
    alone: the tests are of rows.

    Args:
        errors: One error a row, float `[n]`, larger for worse.
        features: By column.
        least_rows: The fewest rows of a slice, and of its rest.
        level: The chance of telling of any slice where there is none, above 0 and below 1.
        pairs: Whether pairs of columns are tested.
        weight: What each row weighs in a mean, `[n]`, not negative; all alike where not given.

    Returns:
        The slices, and how many candidates were tested.
    """
    known = np.isfinite(errors)
    test = _Test(errors[known], None if weight is None else np.asarray(weight, dtype=np.float64)[known])
    cut = {name: Feature(feature.codes[known], feature.labels) for name, feature in features.items()}
    found = [(conditions, mask) for conditions, mask in _singles(cut, least_rows)]
    tested = [(conditions, *test(mask)) for conditions, mask in found]
    if pairs:
        order = sorted(cut, key=lambda name: min((p for c, _, p in tested if c[0][0] == name), default=1.0))
        tested += [(conditions, *test(mask)) for conditions, mask in _pairs(cut, order[:PAIRED_FEATURES], least_rows)]
    corrected = _holm(np.array([p for _, _, p in tested]))
    slices = [
        Slice(conditions, numbers[0], numbers[1], numbers[2], float(p))
        for (conditions, numbers, _), p in zip(tested, corrected, strict=True)
        if p < level
    ]
    by_value = {one.conditions[0]: one.error for one in slices if len(one.conditions) == 1}
    kept = [one for one in slices if len(one.conditions) == 1 or one.error > _ALREADY * max(by_value.get(c, 0.0) for c in one.conditions)]
    return sorted(kept, key=lambda one: (-_weight(one), one.conditions)), len(tested)


def categories(values: Sequence[object] | np.ndarray) -> Feature:
    """Return a column's values as they are, the most frequent `MOST_VALUES` by themselves; `None` is a value of its own, `missing`."""
    texts = np.array(["missing" if value is None else str(value) for value in values], dtype=object)
    names, codes, counts = np.unique(texts, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    places = np.full(len(names), -1)
    places[order] = np.arange(len(order))
    return Feature(places[codes], [str(names[place]) for place in order])


def quantile_bins(values: np.ndarray, *, bins: int = 5, write: Callable[[float], str] | None = None) -> Feature:
    """Return numbers cut at their quantiles, or value by value where they have few; NaN is a value of its own, `missing`.

    Args:
        values: The numbers, `[n]`.
        bins: How many bins, 2 or more.
        write: Writes an end of a bin; with four digits where not given.
    """
    write = write or _rounded
    given = np.asarray(values, dtype=np.float64)
    finite = given[np.isfinite(given)]
    different = np.unique(finite)
    if len(different) <= 2 * bins:
        codes = np.searchsorted(different, np.where(np.isfinite(given), given, 0)) if len(different) else np.zeros(len(given), dtype=int)
        labels = [write(float(value)) for value in different]
    else:
        edges = np.unique(np.quantile(finite, np.linspace(0, 1, bins + 1)[1:-1]))
        codes = np.searchsorted(edges, np.where(np.isfinite(given), given, 0), side="right")
        ends = [write(float(edge)) for edge in edges]
        labels = [f"below {ends[0]}", *(f"{low} to {high}" for low, high in pairwise(ends)), f"{ends[-1]} and above"]
    return Feature(np.where(np.isfinite(given), codes, len(labels)), [*labels, "missing"])


def _rounded(value: float) -> str:
    return f"{float(f'{value:.4g}'):,.10g}"


class _Test:
    """Compares the errors inside a slice with all others."""

    def __init__(self, errors: np.ndarray, weight: np.ndarray | None = None) -> None:
        self._errors, self._rows = errors, len(errors)
        self._weight = np.ones(self._rows) if weight is None else weight
        self._weighed, self._all = float(self._weight @ errors), float(self._weight.sum())
        self._total = float(errors.sum())
        self._binary = bool(np.isin(errors, (0.0, 1.0)).all())
        if not self._binary:
            counts = np.unique(errors, return_counts=True)[1]
            self._ranks = mid_ranks(errors)
            self._ties = 1.0 - float(((counts.astype(np.float64) ** 3 - counts).sum()) / max(self._rows**3 - self._rows, 1))

    def __call__(self, mask: np.ndarray) -> tuple[tuple[int, float, float], float]:
        """Return rows, their mean error and that of the others, and a one-sided p-value."""
        inside, share = int(mask.sum()), float(self._weight[mask].sum())
        total, weighed = float(self._errors[mask].sum()), float(self._weight[mask] @ self._errors[mask])
        mean = weighed / share if share > 0 else 0.0
        rest = (self._weighed - weighed) / (self._all - share) if self._all - share > _ROUNDING * self._all else math.inf
        numbers = (inside, mean, rest)
        if mean <= rest:
            return numbers, 1.0
        if self._binary:
            return numbers, _hypergeometric_tail(round(total), self._rows, round(self._total), inside)
        outside = self._rows - inside
        u = float(self._ranks[mask].sum()) - inside * (inside + 1) / 2
        spread = math.sqrt(inside * outside * (self._rows + 1) / 12 * self._ties)
        return numbers, 0.5 * math.erfc((u - inside * outside / 2) / spread / math.sqrt(2)) if spread else 1.0


def _hypergeometric_tail(found: int, rows: int, errors: int, drawn: int) -> float:
    """Return the chance of at least so many errors among rows drawn without looking."""
    places = np.arange(found, min(errors, drawn) + 1)
    fixed = _log_choose(rows, drawn)
    logs = np.array([_log_choose(errors, k) + _log_choose(rows - errors, drawn - k) - fixed for k in places.tolist()])
    return min(float(np.exp(logs).sum()), 1.0)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) if 0 <= k <= n else -math.inf


def _singles(features: Mapping[str, Feature], least: int) -> Iterator[tuple[tuple[tuple[str, str], ...], np.ndarray]]:
    for name, feature in features.items():
        for code, label in enumerate(feature.labels):
            mask = feature.codes == code
            if least <= mask.sum() <= len(mask) - least:
                yield ((name, label),), mask


def _pairs(features: Mapping[str, Feature], names: Sequence[str], least: int) -> Iterator[tuple[tuple[tuple[str, str], ...], np.ndarray]]:
    for first, second in combinations(names, 2):
        one, two = features[first], features[second]
        both = np.where((one.codes >= 0) & (two.codes >= 0), one.codes * len(two.labels) + two.codes, -1)
        counts = np.bincount(both[both >= 0], minlength=len(one.labels) * len(two.labels))
        for code in np.flatnonzero((counts >= least) & (counts <= len(both) - least)).tolist():
            conditions = ((first, one.labels[code // len(two.labels)]), (second, two.labels[code % len(two.labels)]))
            yield conditions, both == code


def _holm(p_values: np.ndarray) -> np.ndarray:
    order = np.argsort(p_values, kind="stable")
    raised = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1)).clip(max=1.0)
    corrected = np.empty_like(raised)
    corrected[order] = raised
    return corrected


def _weight(one: Slice) -> float:
    """How much error a slice has beyond the others, over all its rows: what mending it would gain."""
    return one.rows * (one.error - one.others)
