"""What a column of a stream looked like, in constant memory: sketches that are updated, merged, written as JSON and compared.

A sketch is made for a reference (`sketch_numbers`, `sketch_names`), which settles its bins; `empty()` gives one with the same bins to
fold other rows into. Two sketches with the same bins can be merged, in any order and with the same result as if their rows had come to
one of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from deepseek.errors import InputError
from deepseek.statistics.counts import TopCounts
from deepseek.statistics.two_sample import quantile_edges

BINS = 40
"""Bins of equal reference share for a column of numbers: the Kolmogorov–Smirnov distance between bins is short by 1/40 at most."""
NAMES = 1_000
"""So many of the reference's most frequent names have a counter of their own."""
LEAST = 5
"""Rows that a name must have in the reference for a counter: of rarer ones not even the name is kept, for it may be somebody's."""
NEW_NAMES = 50
_CHUNK = 1 << 15  # values that stay in the processor's cache while several passes go over them
_MANY = 2_048
_LARGEST = float(np.finfo(np.float32).max)
_NEAR = float(np.finfo(np.float32).eps)
"""Share of a number by which one may miss it and still be the same: twice what float32 rounds."""


class ColumnSketch(ABC):
    """The contract of sketches.

    Attributes:
        rows: How many rows were folded in.
        missing: How many of them lack the value.
    """

    kind: str

    def __init__(self) -> None:
        self.rows = 0
        self.missing = 0

    @property
    @abstractmethod
    def counts(self) -> np.ndarray:
        """Rows in each bin, int64; the bins of two sketches that can be compared are the same."""

    @abstractmethod
    def update(self, values: ArrayLike) -> None:
        """Fold in the next values, of shape `[rows]`."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Fold in what another sketch with the same bins saw."""

    @abstractmethod
    def empty(self) -> Self:
        """Return a sketch with the same bins that has seen nothing."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the sketch as plain JSON values, exactly."""

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> ColumnSketch:
        """Return the sketch that `to_json` wrote.

        Raises:
            InputError: It is no sketch.
        """
        try:
            of_kind: dict[str, type[ColumnSketch]] = {"number": NumberSketch, "name": NameSketch}
            return of_kind[value["kind"]].read(value)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"this is no sketch of a column: {error!r}") from None

    @classmethod
    @abstractmethod
    def read(cls, value: Mapping[str, Any]) -> ColumnSketch:
        """Return the sketch of this class that `to_json` wrote; `from_json` finds the class by itself."""

    def _add(self, rows: int, missing: int) -> None:
        self.rows += rows
        self.missing += missing


class NumberSketch(ColumnSketch):
    """Numbers: rows in each bin, missing ones, mean, spread, least and greatest.

    Sums are taken about the middle of the bins, so that a large mean does not swallow a small spread. NaN and infinite values are missing,
    and so is what is beyond the range of float32, as it is for the models.

    Args:
        edges: The inner edges of the bins, ascending: a bin reaches from its edge up to the next one, the first and the last without end.
    """

    kind = "number"

    def __init__(self, edges: ArrayLike) -> None:
        super().__init__()
        self.edges = np.asarray(edges, dtype=np.float64)
        if (np.diff(self.edges) <= 0).any() or not np.isfinite(self.edges).all():
            raise InputError("the edges of a sketch's bins do not ascend, or are not finite")
        self._center = float(self.edges[len(self.edges) // 2]) if len(self.edges) else 0.0
        self._counts = np.zeros(len(self.edges) + 1, dtype=np.int64)
        self._sum = self._squares = 0.0
        self.low, self.high = math.inf, -math.inf

    @property
    def counts(self) -> np.ndarray:
        """Rows in each bin, int64 `[edges + 1]`."""
        return self._counts

    @property
    def known(self) -> int:
        """How many rows have a value."""
        return self.rows - self.missing

    @property
    def mean(self) -> float:
        """The mean; NaN where there is no value."""
        return self._center + self._sum / self.known if self.known else math.nan

    @property
    def std(self) -> float:
        """The standard deviation; NaN where there is no value."""
        if not self.known:
            return math.nan
        return math.sqrt(max(self._squares / self.known - (self._sum / self.known) ** 2, 0.0))

    def update(self, values: ArrayLike) -> None:
        """Fold in numbers, `[rows]`; NaN and infinite ones are missing."""
        given = np.asarray(values).ravel()
        for start in range(0, len(given), _CHUNK):
            self._fold(given[start : start + _CHUNK].astype(np.float64, copy=False))

    def _fold(self, chunk: np.ndarray) -> None:
        rows = len(chunk)
        with np.errstate(over="ignore", invalid="ignore"):
            from_center = chunk - self._center
            squares = float(from_center @ from_center)
        if not squares < _LARGEST**2:  # the one pass that tells whether anything is missing
            chunk = chunk[np.abs(chunk) <= _LARGEST]
            from_center = chunk - self._center
            squares = float(from_center @ from_center)
        self._add(rows, rows - len(chunk))
        if not len(chunk):
            return
        self._counts += self._binned(chunk)
        self._sum += float(from_center.sum())
        self._squares += squares
        self.low, self.high = min(self.low, float(chunk.min())), max(self.high, float(chunk.max()))

    def _binned(self, chunk: np.ndarray) -> np.ndarray:
        if len(chunk) < _MANY:
            return np.bincount(np.searchsorted(self.edges, chunk, side="right"), minlength=len(self._counts))
        # a comparison with each edge is one vector instruction for several values: 5 times faster here than a search for each value
        reached = [len(chunk), *(int(np.count_nonzero(chunk >= edge)) for edge in self.edges.tolist()), 0]
        return np.asarray(-np.diff(np.array(reached)))

    def merge(self, other: Self) -> None:
        """Fold in what another sketch with the same bins saw.

        Raises:
            InputError: Its bins are others.
        """
        if not np.array_equal(self.edges, other.edges):
            raise InputError("two sketches with other bins cannot be merged", hint="make both by empty() of one reference")
        self._add(other.rows, other.missing)
        self._counts = self._counts + other._counts
        self._sum += other._sum
        self._squares += other._squares
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def empty(self) -> Self:
        """Return a sketch with the same bins that has seen nothing."""
        return type(self)(self.edges)

    def to_json(self) -> dict[str, Any]:
        """Return the sketch as plain JSON values, exactly."""
        ends = [self.low, self.high] if self.known else [None, None]
        state = {"edges": self.edges.tolist(), "counts": self._counts.tolist(), "sum": self._sum, "squares": self._squares, "ends": ends}
        return {"kind": self.kind, "rows": self.rows, "missing": self.missing, **state}

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> NumberSketch:
        """Return the sketch that `to_json` wrote."""
        sketch = cls(value["edges"])
        sketch.rows, sketch.missing = int(value["rows"]), int(value["missing"])
        sketch._counts = _counts(value["counts"], len(sketch._counts))
        sketch._sum, sketch._squares = float(value["sum"]), float(value["squares"])
        if value["ends"][0] is not None:
            sketch.low, sketch.high = map(float, value["ends"])
        return sketch


class NameSketch(ColumnSketch):
    """Names: how often each that the reference knew came, and which others came most.

    Args:
        names: The names with a counter of their own.
        whole: Whether these are all names of the reference, so that any other is new, and told by name; else others are rare ones or new
            ones, of which nothing but the number is kept.
    """

    kind = "name"

    def __init__(self, names: Sequence[str], *, whole: bool = True) -> None:
        super().__init__()
        self.names, self.whole = tuple(names), whole
        self._place = {name: place for place, name in enumerate(self.names)}
        self._counts = np.zeros(len(self.names) + 1, dtype=np.int64)
        self.others = TopCounts(NEW_NAMES)

    @property
    def counts(self) -> np.ndarray:
        """Rows with each name, and last those with any other, int64 `[names + 1]`."""
        return self._counts

    def update(self, values: ArrayLike) -> None:
        """Fold in names, `[rows]`; `None` and NaN are missing."""
        given = np.asarray(values, dtype=object).ravel()
        lacks = np.array([value is None or value != value for value in given], dtype=bool)  # noqa: PLR0124 - NaN is what differs from itself
        names, counts = np.unique(given[~lacks].astype(str), return_counts=True)
        self.update_counts(zip(names.tolist(), counts.tolist(), strict=True), missing=int(lacks.sum()))

    def update_counts(self, counted: Iterable[tuple[str, int]], *, missing: int = 0) -> None:
        """Fold in rows that were counted by name already, as Arrow does it."""
        self._add(missing, missing)
        others = []
        for name, count in counted:
            self.rows += count
            place = self._place.get(name, -1)
            self._counts[place] += count
            if place < 0 and self.whole:
                others.append((name, count))
        self.others.update(others)

    def merge(self, other: Self) -> None:
        """Fold in what another sketch of the same names saw.

        Raises:
            InputError: Its names are others.
        """
        if self.names != other.names:
            raise InputError("two sketches of other names cannot be merged", hint="make both by empty() of one reference")
        self._add(other.rows, other.missing)
        self._counts = self._counts + other._counts
        self.others.merge(other.others)

    def empty(self) -> Self:
        """Return a sketch of the same names that has seen nothing."""
        return type(self)(self.names, whole=self.whole)

    def to_json(self) -> dict[str, Any]:
        """Return the sketch as plain JSON values, exactly."""
        others = {"total": self.others.total, "error": self.others.error, "counts": self.others.most_common()}
        state = {"names": list(self.names), "whole": self.whole, "counts": self._counts.tolist(), "others": others}
        return {"kind": self.kind, "rows": self.rows, "missing": self.missing, **state}

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> NameSketch:
        """Return the sketch that `to_json` wrote."""
        sketch = cls(value["names"], whole=bool(value["whole"]))
        sketch.rows, sketch.missing = int(value["rows"]), int(value["missing"])
        sketch._counts = _counts(value["counts"], len(sketch._counts))
        sketch.others.update((str(name), int(count)) for name, count in value["others"]["counts"])
        sketch.others.total, sketch.others.error = int(value["others"]["total"]), int(value["others"]["error"])
        return sketch


def sketch_numbers(reference: ArrayLike, *, bins: int = BINS) -> NumberSketch:
    """Return a sketch of reference numbers, with bins of equally many of them.

    A number that fills a bin by itself has one of its own, as zero where most are zero, and what lies beyond the least and the greatest has
    two: in a bin with others they would count as such, and a column that has never had but one value could not drift.

    Args:
        reference: The numbers; NaN and infinite ones are missing.
        bins: How many bins of equally many there are, 2 or more.

    Example:
        >>> sketch = sketch_numbers(range(100))
        >>> sketch.rows, sketch.mean
        (100, 49.5)
    """
    given = np.asarray(reference, dtype=np.float64)
    sketch = NumberSketch(_edges(given[np.abs(given) <= _LARGEST], bins))
    sketch.update(given)
    return sketch


def _edges(known: np.ndarray, bins: int) -> np.ndarray:
    if not len(known):
        return np.empty(0)
    values, counts = np.unique(known, return_counts=True)
    heavy = values[counts * bins >= len(known)]
    apart = np.concatenate([heavy - _near(heavy), heavy + _near(heavy)])
    ends = values[[0, -1]] + np.array([-1.0, 1.0]) * _near(values[[0, -1]])
    return np.unique(np.concatenate([np.setdiff1d(quantile_edges(known, bins), heavy), apart, ends]))


def _near(numbers: np.ndarray) -> np.ndarray:
    """Return how far one may be from numbers and still be the same; of zero no denormal, which some processors take for zero."""
    return np.asarray(np.maximum(np.abs(numbers) * _NEAR, np.finfo(np.float64).tiny))


def sketch_names(counted: Mapping[str, int], *, missing: int = 0, most: int = NAMES, least: int = LEAST) -> NameSketch:
    """Return a sketch of reference names, the most frequent of which have counters of their own.

    Args:
        counted: Rows by name.
        missing: Rows without one.
        most: How many counters there are.
        least: Rows that a name must have for one.
    """
    common = [name for name, count in counted.items() if count >= least]
    names = sorted(common, key=lambda name: (-counted[name], name))[:most]
    sketch = NameSketch(names, whole=len(names) == len(counted))
    sketch.update_counts(counted.items(), missing=missing)
    return sketch


def _counts(given: Sequence[int], size: int) -> np.ndarray:
    counts = np.asarray(given, dtype=np.int64)
    if counts.shape != (size,) or (counts < 0).any():
        raise ValueError(f"{len(given)} counts for {size} bins")
    return counts
