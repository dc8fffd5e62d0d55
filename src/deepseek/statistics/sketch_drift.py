"""How far a sketch lies from the reference's: distances, tests with adjusted probabilities, and a verdict a column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from deepseek.errors import InputError
from deepseek.statistics.sketches import ColumnSketch, NameSketch, NumberSketch
from deepseek.statistics.two_sample import (
    benjamini_hochberg,
    binned_kolmogorov_smirnov,
    chi_square,
    jensen_shannon,
    population_stability,
)

ALARM = 0.05
"""Of unchanged windows, one in so many calls any column drifted at all."""
MODERATE, LARGE = 0.1, 0.25
"""From which population stability index a shift is worth looking at, and from which it is large (Siddiqi 2006)."""
MISSING = 0.02
"""From which change of the share of missing values on they count as drift; so do new ones."""
NEW_ROWS = 5
"""Fewer numbers where the reference has none count with their neighbours: one of fifty would make an index of its own."""
STABILITY_BINS = 10

Verdict = Literal["large drift", "moderate drift", "missing values", "new values", "slight drift", "none", "too few rows"]
DRIFTED: tuple[Verdict, ...] = ("large drift", "moderate drift", "missing values", "new values")
"""Verdicts that count as drift: sure, and large enough to matter. A `slight drift` is sure only."""
FEW = 30


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """How far one column has moved.

    Attributes:
        column: Its name.
        test: The test: `KS` for numbers, `chi-square` for names.
        statistic: Its statistic; NaN where there was nothing to compare.
        p: Probability of so much difference without any drift.
        adjusted_p: The same, adjusted for the number of columns (Benjamini and Hochberg).
        psi: Population stability index over ten bins, and over those that the reference has nothing in and a fiftieth of the rows lies in
            now.
        js: Jensen–Shannon distance, 0 to 1.
        missing: Share of missing values in the reference and now.
        means: Mean in the reference and now, of numbers.
        new_share: Share of values that the reference did not have, of names.
        new_values: The most frequent of those.
        others: Share of values that are none of the names which the reference keeps, in it and now: rare ones and new ones.
        rows: Rows compared in the reference and now.
        verdict: What all this comes to.
    """

    column: str
    test: str
    statistic: float
    p: float
    psi: float
    js: float
    missing: tuple[float, float]
    missing_p: float
    rows: tuple[int, int]
    means: tuple[float, float] | None = None
    new_share: float = 0.0
    new_values: tuple[str, ...] = ()
    others: tuple[float, float] = (0.0, 0.0)
    adjusted_p: float = 1.0
    adjusted_missing_p: float = 1.0
    verdict: Verdict = "none"

    @property
    def drifted(self) -> bool:
        """Whether the column has moved, surely and enough to matter."""
        return self.verdict in DRIFTED

    @property
    def why(self) -> str:
        """What has moved, in words: the mean, new values by name, or the share of rare or missing ones."""
        lacks = f"missing {self.missing[0]:.1%} → {self.missing[1]:.1%}"
        if self.verdict == "missing values":
            return lacks
        if self.new_values and self.new_share:
            return f"{self.new_share:.1%} new: {', '.join(map(repr, self.new_values[:3]))}"
        if self.others[1] - self.others[0] >= MISSING:
            return f"rare or new values {self.others[0]:.1%} → {self.others[1]:.1%}"
        if self.means is not None and all(map(math.isfinite, self.means)):
            return f"mean {self.means[0]:.4g} → {self.means[1]:.4g}"
        return lacks if abs(self.missing[1] - self.missing[0]) >= MISSING else ""


def compare_sketches(reference: Mapping[str, ColumnSketch], current: Mapping[str, ColumnSketch]) -> list[ColumnDrift]:
    """Return how far each column has moved, the worst first.

    Numbers are compared by the Kolmogorov–Smirnov distance at the edges of the reference's bins, which is at most the true distance, and
    short of it by no more than the largest share that one bin holds in either sketch (about 1/40): its probability is on the safe side.
    Names are compared by χ². All probabilities are adjusted together, so that of unchanged windows one in twenty calls anything drifted.
    With millions of rows any difference is sure: what counts as drift has besides an index of at least 0.1.

    Args:
        reference: The reference's sketches by column.
        current: Sketches with the same bins; columns that are not in it are passed over.
    """
    found = [compare_column(name, reference[name], current[name]) for name in reference if name in current]
    adjusted = benjamini_hochberg([p for one in found for p in (one.p, one.missing_p)]).reshape(-1, 2) if found else np.empty((0, 2))
    judged = [_judged(replace(one, adjusted_p=float(p), adjusted_missing_p=float(m))) for one, (p, m) in zip(found, adjusted, strict=True)]
    order = {verdict: place for place, verdict in enumerate((*DRIFTED, "slight drift", "none", "too few rows"))}
    return sorted(judged, key=lambda one: (order[one.verdict], -one.psi, one.column))


def compare_column(name: str, reference: ColumnSketch, current: ColumnSketch) -> ColumnDrift:
    """Return how far one column has moved; probabilities are not adjusted and there is no verdict yet.

    Raises:
        InputError: The sketches do not have the same bins.
    """
    if type(reference) is not type(current) or reference.counts.shape != current.counts.shape:
        raise InputError(f"the sketches of {name!r} do not have the same bins", hint="make the second by empty() of the first")
    before, after = reference.counts, current.counts
    test = binned_kolmogorov_smirnov(before, after) if isinstance(reference, NumberSketch) else chi_square(before, after)
    coarse = _coarse(before, after) if isinstance(reference, NumberSketch) else np.arange(len(before))
    groups = int(coarse.max()) + 1
    few = [np.bincount(coarse, counts, groups) for counts in (before, after)]
    kept = few[0] + few[1] > 0  # a name that neither has would only add to the half rows of the index
    some = before.any() and after.any()
    lacks = chi_square([reference.missing, reference.rows - reference.missing], [current.missing, current.rows - current.missing])
    drift = ColumnDrift(
        name,
        "KS" if isinstance(reference, NumberSketch) else "chi-square",
        test.statistic,
        test.p,
        population_stability(few[0][kept], few[1][kept]) if some else 0.0,
        jensen_shannon(few[0], few[1]) if some else math.nan,
        (_share(reference.missing, reference.rows), _share(current.missing, current.rows)),
        lacks.p,
        (reference.rows, current.rows),
    )
    if isinstance(reference, NumberSketch) and isinstance(current, NumberSketch):
        return replace(drift, means=(reference.mean, current.mean))
    assert isinstance(reference, NameSketch)
    assert isinstance(current, NameSketch)
    others = tuple(_share(int(one.counts[-1]), one.rows - one.missing) for one in (reference, current))
    drift = replace(drift, others=(others[0], others[1]))
    if not reference.whole:
        return drift
    return replace(drift, new_share=others[1], new_values=tuple(value for value, _ in current.others.most_common(5)))


def _judged(one: ColumnDrift) -> ColumnDrift:
    sure = one.adjusted_p < ALARM
    verdict: Verdict = "none"
    if one.rows[1] < FEW:
        verdict = "too few rows"
    elif sure and one.psi >= MODERATE:
        verdict = "large drift" if one.psi >= LARGE else "moderate drift"
    elif one.adjusted_missing_p < ALARM and abs(one.missing[1] - one.missing[0]) >= MISSING:
        verdict = "missing values"
    elif sure and one.new_share >= MISSING:
        verdict = "new values"
    elif sure or one.adjusted_missing_p < ALARM:
        verdict = "slight drift"
    return replace(one, verdict=verdict)


def _coarse(counts: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Return for each bin which of ten groups of about equal reference share it belongs to, int64 `[bins]`, without gaps.

    A bin that the reference has nothing in is a group by itself where it has enough rows now: what comes there is new.
    """
    total = counts.sum()
    if not total:
        return np.zeros(len(counts), dtype=np.int64)
    middle = (np.cumsum(counts) - counts / 2) / total
    groups = np.floor(middle * STABILITY_BINS).clip(max=STABILITY_BINS - 1)
    new = (counts == 0) & (now >= max(MISSING * now.sum(), NEW_ROWS))
    return np.unique(np.where(new, STABILITY_BINS + np.arange(len(counts)), groups), return_inverse=True)[1]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
