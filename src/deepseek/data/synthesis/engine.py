"""The values of features for many rows at many times: each sees what was known by its own cut-off, and nothing else.

Rows of a table that are aggregated are sorted once by the row that they belong to and by time, so that what a cut-off sees is a range. What
the rows are worth is computed once, as of the end of time, together with the moment from which that holds (`Settled`): a later one where
values came later than their rows. Whoever is asked as of an earlier moment gets those rows' values worked out as of then, one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np

from deepseek.data.synthesis.aggregations.base import Aggregation, Ranges
from deepseek.data.synthesis.feature import Aggregated, Derived, Direct, Feature, Identity, Relationship
from deepseek.data.synthesis.ranges import Arrays, fold, spelled, without
from deepseek.data.synthesis.tables import ALWAYS, NEVER, Table

_KEPT = 16


@dataclass(frozen=True)
class Settled:
    """What a feature of each row of a table comes to in the end, and from when on.

    Attributes:
        values: float64 `[rows]`.
        known: From when on each is what it is here, microseconds, int64 `[rows]`; nothing where it always is.
        oldest: The time of the oldest row that is in it, after which a window cuts it, int64 `[rows]`; nothing where none is.
        blank: Whether it is missing until then.
    """

    values: np.ndarray
    known: np.ndarray | None
    oldest: np.ndarray | None
    blank: bool


class Engine:
    """Computes features over loaded tables.

    Args:
        tables: By name.
        window_us: How far back from its cut-off rows are aggregated, microseconds; all the way where not given.
        delay_us: How much earlier than the cut-off what is seen ends: 0 where rows at the very cut-off are seen, else 1.
    """

    def __init__(self, tables: Mapping[str, Table], *, window_us: int | None = None, delay_us: int = 0) -> None:
        self._tables, self._window, self._delay = tables, window_us, delay_us
        self._settled = lru_cache(maxsize=_KEPT)(self._settle)
        self._paths: dict[tuple[Relationship, ...], _Path] = {}

    def values(self, feature: Feature, rows: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Return a feature's value for rows of its table, float64 `[rows]`, NaN where it has none.

        Args:
            feature: The feature.
            rows: Rows of its table, int64 `[rows]`; -1 for a row that is not there.
            seen: Until when, inclusively, each of them sees, microseconds, int64 `[rows]`.
        """
        if isinstance(feature, Identity):
            return self._identity(feature, rows, seen)
        if isinstance(feature, Direct):
            return self.values(feature.of, self._parents(feature.relationship, rows, seen), seen)
        if isinstance(feature, Derived):
            return self._derived(feature, self.values(feature.of, rows, seen), seen + self._delay)
        return self._aggregated(feature, rows, seen)

    def _identity(self, feature: Identity, rows: np.ndarray, seen: np.ndarray) -> np.ndarray:
        column = self._tables[feature.table].columns[feature.column]
        found = _picked(column.values, rows, np.nan)
        if column.known is not None:
            found[_picked(column.known, rows, ALWAYS) > seen] = np.nan
        return found

    def _parents(self, relationship: Relationship, rows: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Return the rows that rows refer to, -1 where there is none by then."""
        parents = _picked(self._tables[relationship.child].links[relationship.child_column], rows, -1)
        times = self._tables[relationship.parent].times
        return parents if times is None else np.where(_picked(times, parents, NEVER) <= seen, parents, -1)

    def _derived(self, feature: Derived, values: np.ndarray, cutoffs: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(feature.derivation.apply(values, cutoffs), dtype=np.float64)

    def _aggregated(self, feature: Aggregated, rows: np.ndarray, seen: np.ndarray) -> np.ndarray:
        path = self._path(feature.path)
        starts, stops = path.ranges(rows, seen, self._window)
        inputs = self._inputs(feature, path)
        found = np.empty(len(rows))
        if inputs is None:
            slow = starts < stops
        else:
            if inputs.blank and inputs.known is not None and path.on_time and _blank_is_absent(feature):
                early = path.known_before(inputs.known, rows, seen)
                stops = stops if early is None else np.maximum(np.minimum(stops, early), starts)
                inputs = inputs if early is None else Settled(inputs.values, None, inputs.oldest, blank=True)
            slow = self._unsettled(path, inputs, Ranges(starts, stops, seen))
        quick = ~slow
        if inputs is not None:
            ranges = Ranges(starts[quick], stops[quick], seen[quick] + self._delay)
            found[quick] = self._over(feature, path, inputs.values, ranges)
        else:
            found[quick] = _over(feature.aggregation, np.empty(0), _empty(seen[quick] + self._delay))
        if slow.any():
            found[slow] = self._one_by_one(feature, path, Ranges(starts[slow], stops[slow], seen[slow]))
        return found

    def _inputs(self, feature: Aggregated, path: _Path) -> Settled | None:
        """Return what the aggregated rows come to in the order of the path, the condition's moments included; nothing where it moves."""
        of = None if feature.aggregation.takes == "row_time" else feature.of
        settled = [self._settled(part) for part in (of, feature.where.of if feature.where else None) if part is not None]
        there = [part for part in settled if part is not None]
        if len(there) < len(settled):
            return None
        values = there[0].values[path.rows] if of is not None else self._plain_values(feature, path.rows)
        known = _joined(np.maximum, [None if part.known is None else part.known[path.rows] for part in there])
        oldest = _joined(np.minimum, [None if part.oldest is None else part.oldest[path.rows] for part in there])
        return Settled(values, known, oldest, blank=all(part.blank for part in there))

    def _unsettled(self, path: _Path, inputs: Settled, ranges: Ranges) -> np.ndarray:
        """Return which ranges hold a row that is not seen by then, or whose value is another as of then."""
        slow = np.zeros(len(ranges), dtype=bool)
        known = _joined(np.maximum, [inputs.known, None if path.on_time else path.seen])
        if known is not None and (known > path.when).any():
            latest = fold((known,), ranges, join=_maximum, empty=(ALWAYS,))[0]
            slow |= latest > ranges.cutoffs
        oldest = _joined(np.minimum, [inputs.oldest, None if path.oldest_on_time else path.oldest])
        if self._window is not None and oldest is not None and (oldest != path.when).any():
            first = fold((oldest,), ranges, join=_minimum, empty=(NEVER,))[0]
            slow |= first <= ranges.cutoffs - self._window
        return slow

    def _over(self, feature: Aggregated, path: _Path, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        where = feature.where
        if where is not None:
            settled = self._settled(where.of)
            assert settled is not None, "a condition is a column, which does not move"
            keep = settled.values[path.rows] == self._code(where.of, where.value)
            values, ranges = values[keep], without(keep, ranges)
        return _over(feature.aggregation, values, ranges)

    def _one_by_one(self, feature: Aggregated, path: _Path, ranges: Ranges) -> np.ndarray:
        """Return the values of ranges whose rows are looked at as of each cut-off, in pieces of bounded size."""
        found = np.empty(len(ranges))
        for piece, places, owners in spelled(ranges):
            seen = ranges.cutoffs[piece]
            alive = path.seen[places] <= seen[owners]
            if self._window is not None:
                alive &= path.oldest[places] > seen[owners] - self._window
            whose = owners[alive]
            rows, when = path.rows[places[alive]], seen[whose]
            if feature.where is not None:
                keep = self.values(feature.where.of, rows, when) == self._code(feature.where.of, feature.where.value)
                rows, when, whose = rows[keep], when[keep], whose[keep]
            counted = feature.of is None or feature.aggregation.takes == "row_time"
            values = self._plain_values(feature, rows) if counted else self.values(cast(Feature, feature.of), rows, when)
            stops = np.cumsum(np.bincount(whose, minlength=len(seen)))
            starts = np.concatenate(([0], stops[:-1]))
            found[piece] = _over(feature.aggregation, values, Ranges(starts, stops, seen + self._delay))
        return found

    def _plain_values(self, feature: Aggregated, rows: np.ndarray) -> np.ndarray:
        """Return the times of rows, where these are what is aggregated, or anything, where only the rows themselves count."""
        times = self._tables[feature.rows].times
        if feature.aggregation.takes != "row_time" or times is None:
            return np.zeros(len(rows))
        return np.asarray(times[rows].astype(np.float64))

    def _settle(self, feature: Feature) -> Settled | None:
        if isinstance(feature, Identity):
            column = self._tables[feature.table].columns[feature.column]
            return Settled(column.values, column.known, None, blank=True)
        if isinstance(feature, Derived):
            inner = None if feature.derivation.moves else self._settled(feature.of)
            if inner is None:
                return None
            values = self._derived(feature, inner.values, np.full(len(inner.values), NEVER))
            return Settled(values, inner.known, inner.oldest, inner.blank and feature.derivation.keeps_missing)
        if isinstance(feature, Direct):
            return self._settle_direct(feature)
        return self._settle_aggregated(feature)

    def _settle_direct(self, feature: Direct) -> Settled | None:
        inner = self._settled(feature.of)
        if inner is None:
            return None
        parents = self._tables[feature.relationship.child].links[feature.relationship.child_column]
        times = self._tables[feature.relationship.parent].times
        known = None if inner.known is None else _picked(inner.known, parents, ALWAYS)
        if times is not None:
            there = _picked(times, parents, NEVER)
            parents = np.where(there < NEVER, parents, -1)
            known = _joined(np.maximum, [known, np.where(there < NEVER, there, ALWAYS)])
        oldest = None if inner.oldest is None else _picked(inner.oldest, parents, NEVER)
        return Settled(_picked(inner.values, parents, np.nan), known, oldest, inner.blank)

    def _settle_aggregated(self, feature: Aggregated) -> Settled | None:
        path = self._path(feature.path)
        inputs = None if feature.aggregation.moves else self._inputs(feature, path)
        if inputs is None:
            return None
        ranges = Ranges(path.offsets[:-1], path.offsets[1:], np.full(len(path.offsets) - 1, NEVER))
        values = self._over(feature, path, inputs.values, ranges)
        known = np.maximum(path.seen, inputs.known) if inputs.known is not None else path.seen
        oldest = path.oldest if inputs.oldest is None else np.minimum(path.oldest, inputs.oldest)
        latest = fold((known,), ranges, join=_maximum, empty=(ALWAYS,))[0]
        return Settled(values, latest, fold((oldest,), ranges, join=_minimum, empty=(NEVER,))[0], blank=False)

    def _path(self, steps: tuple[Relationship, ...]) -> _Path:
        if steps not in self._paths:
            self._paths[steps] = _Path(self._tables, steps)
        return self._paths[steps]

    def _code(self, feature: Feature, value: str | float | bool) -> float:
        """Return the number that stands for a value of a column in a condition; NaN, which nothing equals, where no row has it."""
        while isinstance(feature, Direct):
            feature = feature.of
        assert isinstance(feature, Identity), "a condition is on a column"
        return self._tables[feature.table].columns[feature.column].code(value)


class _Path:
    """The rows of a table sorted by the row of another, further up, that they belong to, and by time.

    Attributes:
        rows: The rows, int64 `[n]`; those that belong to none, or are never seen, are not among them.
        offsets: Where those of each row further up begin, int64 `[rows up there + 1]`.
        when: The time of each, int64 `[n]`.
        seen: From when on it and every row on the way are there, int64 `[n]`.
        oldest: The earliest of those times, after which a window cuts it; `NEVER` where none of them has one, int64 `[n]`.
    """

    def __init__(self, tables: Mapping[str, Table], steps: Sequence[Relationship]) -> None:
        table = tables[steps[-1].child]
        owner = np.arange(table.rows)
        own = table.times if table.times is not None else np.full(table.rows, ALWAYS)
        seen, oldest = own.copy(), np.where(own == ALWAYS, NEVER, own)
        for step in reversed(steps):
            owner = _picked(tables[step.child].links[step.child_column], owner, -1)
            times = tables[step.parent].times
            if step is not steps[0] and times is not None:
                there = _picked(times, owner, NEVER)
                seen, oldest = np.maximum(seen, there), np.minimum(oldest, there)
        kept = np.flatnonzero((owner >= 0) & (seen < NEVER))
        order = kept[np.lexsort((table.rank[kept], own[kept], owner[kept]))]
        self.rows, self.when, self.seen = order, own[order], seen[order]
        self._owners = owner[order]
        count = tables[steps[0].parent].rows
        self.offsets = np.concatenate(([0], np.cumsum(np.bincount(self._owners, minlength=count), dtype=np.int64)))
        self.on_time = bool((self.seen == self.when).all())
        self.oldest = oldest[order]
        self.oldest_on_time = bool(((self.oldest == self.when) | (self.oldest == NEVER)).all())
        self._ordered = _Ordered(self._owners, self.when)

    def ranges(self, rows: np.ndarray, seen: np.ndarray, window_us: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Return where the rows begin and end that belong to each row and are there by then and within the window; empty for row -1."""
        there = rows >= 0
        owners = np.where(there, rows, 0)
        starts = np.where(there, self.offsets[owners], 0)
        stops = np.where(there, starts + self._ordered.until(owners, seen, starts), 0)
        if window_us is not None and (self.when > ALWAYS).any():
            starts = np.where(there, starts + self._ordered.until(owners, seen - window_us, starts), 0)
        return starts, np.maximum(stops, starts)

    def known_before(self, known: np.ndarray, rows: np.ndarray, seen: np.ndarray) -> np.ndarray | None:
        """Return where the rows of each row end whose values are known by then, where these always stand before the others."""
        late = np.maximum(known, self.seen)
        falls = (late[1:] < late[:-1]) & (self._owners[1:] == self._owners[:-1])
        if falls.any():
            return None
        owners = np.where(rows >= 0, rows, 0)
        starts = self.offsets[owners]
        return np.where(rows >= 0, starts + _Ordered(self._owners, late).until(owners, seen, starts), 0)


class _Ordered:
    """Times in ascending order within each owner, to be bisected for many owners at once.

    Args:
        owners: Ascending, int64 `[n]`.
        times: int64 `[n]`.
    """

    def __init__(self, owners: np.ndarray, times: np.ndarray) -> None:
        self._moments = np.unique(times)
        self._step = len(self._moments) + 1
        self._places = owners * self._step + np.searchsorted(self._moments, times)

    def until(self, owners: np.ndarray, last: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return how many times of an owner are not after `last`, int64, given where the owner's begin."""
        wanted = owners * self._step + np.searchsorted(self._moments, last, side="right")
        return np.asarray(np.searchsorted(self._places, wanted) - starts)


def _over(aggregation: Aggregation, values: np.ndarray, ranges: Ranges) -> np.ndarray:
    with np.errstate(all="ignore"):
        found = np.asarray(aggregation.over(values, ranges), dtype=np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def _blank_is_absent(feature: Aggregated) -> bool:
    """Whether rows whose values are not known yet may as well not be there."""
    return (feature.where is not None and feature.of is None) or (feature.of is not None and feature.aggregation.skips_missing)


def _picked(values: np.ndarray, rows: np.ndarray, absent: float) -> np.ndarray:
    """Return values by row, and another one for the row -1."""
    if not len(values):
        return np.full(len(rows), absent, dtype=values.dtype)
    found = values[np.where(rows < 0, 0, rows)]
    found[rows < 0] = absent
    return np.asarray(found)


def _empty(cutoffs: np.ndarray) -> Ranges:
    nothing = np.zeros(len(cutoffs), dtype=np.int64)
    return Ranges(nothing, nothing, cutoffs)


def _joined(join: np.ufunc, parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    there = [part for part in parts if part is not None]
    if not there:
        return None
    found = there[0]
    for part in there[1:]:
        found = join(found, part)
    return found


def _maximum(first: Arrays, second: Arrays) -> Arrays:
    return (np.maximum(first[0], second[0]),)


def _minimum(first: Arrays, second: Arrays) -> Arrays:
    return (np.minimum(first[0], second[0]),)
