"""What a table's columns have to do with each other and with the target, from a sample of its rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import missing, plain, spell
from deepseek.data.targets import TargetKind
from deepseek.fields import Kind, leak_suspects
from deepseek.profiling.measures import TimeMeasure, numbers
from deepseek.profiling.survey import Column
from deepseek.statistics.association import correlation_ratio, cramers_v, mid_ranks, pearson, spearman
from deepseek.statistics.two_sample import benjamini_hochberg, chi_square, kolmogorov_smirnov

PAIR_ROWS = 10_000
PAIR_COLUMNS = 40
"""Every pair is looked at among so many columns at most: of 40 there are 780."""

_NUMERIC = {Kind.NUMBER, Kind.TIMESTAMP, Kind.TEXT}
_NAMED = {Kind.CATEGORY, Kind.BINARY}


class Comparable:
    """A column as something that can be compared: numbers (texts by their length), or categories.

    Args:
        column: What the passes found of it.
        sample: Its values in the sample.
        named: Whether its values are names, whatever they look like: classes may be numbers.

    Attributes:
        numbers: float64 `[rows]`, NaN where missing; nothing for categories.
        codes: int64 `[rows]`, -1 where missing; nothing for numbers.
        missing: Boolean `[rows]`.
    """

    def __init__(self, column: Column, sample: pa.ChunkedArray, *, named: bool = False) -> None:
        self.name = column.name
        whole = _whole(sample)
        self.missing = missing(whole)
        self.numbers: np.ndarray | None = None
        self.codes: np.ndarray | None = None
        if named or column.kind in _NAMED:
            self.codes = spell(whole, column.name)[1]
        elif column.kind is Kind.NUMBER:
            self.numbers = numbers(whole)
        elif column.kind is Kind.TEXT:
            lengths = pc.utf8_length(plain(whole).cast(pa.string()))
            self.numbers = np.asarray(lengths.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
        elif column.kind is Kind.TIMESTAMP and isinstance(column.measure, TimeMeasure):
            self.numbers = np.full(len(whole), np.nan)
            moments = column.measure.moments(whole)
            if len(moments) == int((~self.missing).sum()):
                self.numbers[~self.missing] = moments
        self._whole_ranks = None if self.numbers is None or np.isnan(self.numbers).any() else mid_ranks(self.numbers)

    def with_other(self, other: Comparable) -> tuple[str, float]:
        """Return what was measured of the pair, and how much: -1 to 1 for two columns of numbers, 0 to 1 otherwise."""
        if self.numbers is not None and other.numbers is not None:
            if self._whole_ranks is not None and other._whole_ranks is not None:
                return "Spearman's rank correlation", pearson(self._whole_ranks, other._whole_ranks)
            return "Spearman's rank correlation", spearman(self.numbers, other.numbers)
        if self.codes is not None and other.codes is not None:
            return "Cramér's V", cramers_v(self.codes, other.codes)
        if self.codes is not None and other.numbers is not None:
            return "correlation ratio", correlation_ratio(self.codes, other.numbers)
        if self.numbers is not None and other.codes is not None:
            return "correlation ratio", correlation_ratio(other.codes, self.numbers)
        return "", math.nan


def comparables(
    columns: Mapping[str, Column], sample: pa.Table, *, first: Sequence[str] = (), named: str | None = None
) -> list[Comparable]:
    """Return the columns of a sample that can be compared.

    Args:
        columns: What the passes found.
        sample: The rows; `PAIR_ROWS` of them, evenly spaced, are taken.
        first: Columns that come first, whatever their place in the table and whatever they are.
        named: A column whose values are names, whatever they look like.
    """
    step = max(sample.num_rows // PAIR_ROWS, 1)
    rows = sample.take(pa.array(np.arange(0, sample.num_rows, step)[:PAIR_ROWS]))
    names = [*first, *(name for name in columns if name not in first)]
    fit = [name for name in names if name in first or (columns[name].kind in _NUMERIC | _NAMED and columns[name].distinct > 1)]
    return [Comparable(columns[name], rows.column(name), named=name == named) for name in fit]


def pairs(compared: Sequence[Comparable]) -> list[dict[str, Any]]:
    """Return every pair of columns with what they have to do with each other, the closest first."""
    found = []
    for one, two in combinations(compared[:PAIR_COLUMNS], 2):
        measure, value = one.with_other(two)
        if math.isfinite(value):
            entry: dict[str, Any] = {"first": one.name, "second": two.name, "measure": measure, "value": value}
            if one.numbers is not None and two.numbers is not None:
                entry["pearson"] = _finite(pearson(one.numbers, two.numbers))
            found.append(entry)
    return sorted(found, key=lambda entry: -abs(entry["value"]))


def with_target(target: Comparable, compared: Sequence[Comparable]) -> list[dict[str, Any]]:
    """Return how closely each column goes together with the target, the closest first."""
    found = []
    for other in compared:
        measure, value = other.with_other(target)
        if other.name != target.name and math.isfinite(value):
            found.append({"column": other.name, "measure": measure, "value": value})
    return sorted(found, key=lambda entry: -abs(float(str(entry["value"]))))


def missing_by_target(sample: pa.Table, target: str, kind: TargetKind) -> list[dict[str, Any]]:
    """Return the columns whose values are missing more often for some targets than for others, the surest first.

    Whether a value is missing is information, and often one that is not there when an answer is needed: a date of cancellation is missing
    for everyone who has not left yet. Classes are compared by χ², numbers by the Kolmogorov–Smirnov test; probabilities are adjusted.
    """
    goal = _whole(sample.column(target))
    texts, codes = spell(goal, target) if kind in {"binary", "classes"} else ([], np.empty(0, dtype=np.int64))
    found: list[dict[str, Any]] = []
    for name in sample.column_names:
        absent = missing(_whole(sample.column(name)))
        if name == target or not absent.any() or absent.all():
            continue
        entry: dict[str, Any] = {"column": name, "missing": float(absent.mean())}
        if len(texts):
            here, all_ = (np.bincount(codes[(codes >= 0) & rows], minlength=len(texts)) for rows in (absent, np.ones_like(absent)))
            entry["p"] = chi_square(here, all_ - here).p
            shares = {str(text): _share(part, whole) for text, part, whole in zip(texts, here, all_, strict=True) if text is not None}
            entry["by_class"] = dict(sorted(shares.items(), key=lambda item: -item[1])[:10])
        else:
            values = numbers(goal)
            entry["p"] = kolmogorov_smirnov(values[absent], values[~absent]).p
            entry["mean_where_missing"] = _mean(values[absent])
            entry["mean_elsewhere"] = _mean(values[~absent])
        found.append(entry)
    for entry, adjusted in zip(found, benjamini_hochberg([entry["p"] for entry in found]), strict=True):
        entry["adjusted_p"] = float(adjusted)
    return sorted(found, key=lambda entry: entry["adjusted_p"])


def leaks(sample: pa.Table, target: str, kind: TargetKind) -> list[dict[str, str]]:
    """Return the columns that may give the target away, and how: by their values, or by where they are missing."""
    usable = [name for name in sample.column_names if not isinstance(sample.column(name).type, pa.BaseExtensionType)]
    found = [{"column": name, "reason": reason} for name, reason in leak_suspects(sample.select(usable), target)]
    if kind not in {"binary", "classes"}:
        return found
    known = {entry["column"] for entry in found}
    _, codes = spell(_whole(sample.column(target)), target)
    for name in usable:
        absent = missing(_whole(sample.column(name))).astype(np.int64)
        if name not in known and name != target and min(absent.sum(), len(absent) - absent.sum()) >= 20:
            together = cramers_v(absent, codes)
            if together > 0.9:
                found.append({"column": name, "reason": f"whether it is missing says the target (Cramér's V {together:.3f})"})
    return found


def _whole(column: pa.ChunkedArray) -> pa.Array:
    if not column.num_chunks:
        return pa.array([], column.type)
    joined = column.combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0


def _mean(values: np.ndarray) -> float | None:
    return _finite(float(np.nanmean(values))) if np.isfinite(values).any() else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
