"""Rows of two tables that belong together: the same key, and the nearest time or all times within a distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Direction = Literal["nearest", "before", "after"]
_FAR = np.int64(2**62)


@dataclass(frozen=True)
class Moments:
    """The key and the time of every row of a table.

    Attributes:
        keys: Texts `[rows]`; null belongs to nothing.
        times: `timestamp[us]` `[rows]`; null belongs to nothing.
    """

    keys: pa.Array
    times: pa.Array

    def __len__(self) -> int:
        return len(self.keys)

    def coded(self, known: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Return for each row the place of its key among those known, -1 where it or the time is not, and the time in microseconds."""
        codes = pc.fill_null(pc.index_in(self.keys, known, skip_nulls=True), -1).to_numpy(zero_copy_only=False).astype(np.int64)
        codes[self.times.is_null().to_numpy(zero_copy_only=False)] = -1
        return codes, pc.fill_null(self.times.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)


class Others:
    """The rows of a table by key and time, to be looked up from another.

    Args:
        moments: Their keys and times.
    """

    def __init__(self, moments: Moments) -> None:
        self._known = pc.unique(moments.keys.drop_null())
        codes, times = moments.coded(self._known)
        order = np.lexsort((times, codes))
        self._order = order[np.searchsorted(codes[order], 0) :]  # rows without a key or time are found by nobody
        self._codes, self._times = codes[self._order], times[self._order]

    def nearest(self, base: Moments, within_us: int | None, direction: Direction) -> np.ndarray:
        """Return for each row of `base` the row here that belongs to it, int64 `[base]`, -1 where none does.

        Of two rows as near as each other the earlier one is taken.

        Args:
            base: The rows to find others for.
            within_us: The longest time between the two; any where not given.
            direction: Whether the other may come before and after, or only at the same time and `before`, or `after`.
        """
        codes, times = base.coded(self._known)
        before = self._places(codes, times, after=True) - 1
        after = self._places(codes, times, after=False)
        distance_before = self._distance(before, codes, times) if direction != "after" else np.full(len(codes), _FAR)
        distance_after = self._distance(after, codes, times) if direction != "before" else np.full(len(codes), _FAR)
        chosen = np.where(distance_before <= distance_after, before, after)
        best = np.minimum(distance_before, distance_after)
        found = best <= (_FAR - 1 if within_us is None else within_us)
        return np.where(found, self._order[np.where(found, chosen, 0)], -1) if len(self._order) else np.full(len(codes), -1)

    def windows(self, base: Moments, within_us: int | None, direction: Direction) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all rows here in the order of key and time, and for each row of `base` where those that belong to it begin and end."""
        codes, times = base.coded(self._known)
        reach = _FAR if within_us is None else np.int64(within_us)
        first = times if direction == "after" else np.maximum(times, reach - _FAR) - reach
        last = times if direction == "before" else np.minimum(times, _FAR - reach) + reach
        begin, end = self._places(codes, first, after=False), self._places(codes, last, after=True)
        return self._order, begin, np.where(codes < 0, begin, end)

    def _places(self, codes: np.ndarray, times: np.ndarray, *, after: bool) -> np.ndarray:
        """Return how many rows here come before each moment, those of the very moment among them where `after`.

        Both are sorted together: a key and a time do not fit into one number that could be looked up.
        """
        mine, others = len(codes), len(self._codes)
        tie = np.concatenate((np.full(mine, 1 if after else -1, np.int8), np.zeros(others, np.int8)))
        order = np.lexsort((tie, np.concatenate((times, self._times)), np.concatenate((codes, self._codes))))
        passed = np.cumsum(order >= mine)
        places = np.empty(mine, np.int64)
        asked = order < mine
        places[order[asked]] = passed[asked]
        return places

    def _distance(self, places: np.ndarray, codes: np.ndarray, times: np.ndarray) -> np.ndarray:
        if not len(self._codes):
            return np.full(len(codes), _FAR)
        inside = (places >= 0) & (places < len(self._codes))
        safe = np.where(inside, places, 0)
        same = inside & (self._codes[safe] == codes)
        return np.where(same, np.abs(self._times[safe] - times), _FAR)
