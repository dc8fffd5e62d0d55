"""How far people agree who labelled the same things, beyond what chance alone would do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import combinations
from typing import Any


def krippendorff_alpha(units: Sequence[Sequence[Hashable]]) -> float:
    """Return Krippendorff's alpha for names: 1 where all agree, 0 where they agree as chance would have it, below 0 where they avoid it.

    Any number of people may have labelled each thing; those labelled by one alone say nothing. (Krippendorff, "Content analysis", 2004;
    Hayes and Krippendorff 2007.)

    Args:
        units: For each thing the labels that it was given.

    Returns:
        Not a number where nothing was labelled twice, or all labels are the same.
    """
    paired = [Counter(labels) for labels in units if len(labels) > 1]
    totals: Counter[Hashable] = Counter()
    observed = 0.0
    for counts in paired:
        size = sum(counts.values())
        totals.update(counts)
        observed += sum(count * (size - count) for count in counts.values()) / (size - 1)
    whole = sum(totals.values())
    expected = sum(count * (whole - count) for count in totals.values()) / (whole - 1) if whole > 1 else 0.0
    return 1.0 - observed / expected if expected else math.nan


def mean_pairwise(units: Sequence[Sequence[object]], alike: Callable[[Any, Any], float]) -> float:
    """Return how alike two annotations of one thing are on average, over all pairs of all things; not a number where there is no pair.

    Args:
        units: For each thing its annotations.
        alike: Says of two how alike they are, from 0 to 1.
    """
    values = [float(alike(first, second)) for annotations in units for first, second in combinations(annotations, 2)]
    return sum(values) / len(values) if values else math.nan
