"""Folding many overlapping ranges of an array at once, in time that hangs on the array's length and not on the ranges' overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from deepseek.data.synthesis.aggregations.base import Ranges

Arrays = tuple[np.ndarray, ...]
PAIRS = 1 << 22
"""The most rows that overlapping ranges are spelled out to at a time."""


def fold(parts: Sequence[np.ndarray], ranges: Ranges, *, join: Callable[[Arrays, Arrays], Arrays], empty: Sequence[float]) -> Arrays:
    """Return for each range all its rows joined into one.

    Runs of 1, 2, 4, … rows beginning at every row are joined from those half as long; each range is put together from runs laid end to end
    from its first row on. So how a range is put together hangs on its length alone: rows elsewhere cannot move a single bit of a sum.

    Args:
        parts: The arrays of one state each, `[rows]`.
        ranges: The ranges.
        join: Returns the state of two runs that stand one behind the other; associative up to rounding.
        empty: The state of no rows.

    Returns:
        As many arrays as parts, `[ranges]`.
    """
    found = tuple(np.full(len(ranges), value, dtype=part.dtype) for value, part in zip(empty, parts, strict=True))
    lengths, places = ranges.lengths, ranges.starts.copy()
    runs: Arrays = tuple(parts)
    size, longest = 1, int(lengths.max(initial=0))
    while size <= longest:
        chosen = np.flatnonzero(lengths & size)
        if len(chosen):
            ours = tuple(part[chosen] for part in found)
            joined = join(ours, tuple(run[places[chosen]] for run in runs))
            for part, value in zip(found, joined, strict=True):
                part[chosen] = value
            places[chosen] += size
        if 2 * size <= longest:
            runs = join(tuple(run[:-size] for run in runs), tuple(run[size:] for run in runs))
        size *= 2
    return found


def without(keep: np.ndarray, ranges: Ranges) -> Ranges:
    """Return the ranges in the array that is left when only some rows are kept.

    Args:
        keep: Which rows, boolean `[rows]`.
        ranges: The ranges in all rows.
    """
    before = np.concatenate(([0], np.cumsum(keep, dtype=np.int64)))
    return Ranges(before[ranges.starts], before[ranges.stops], ranges.cutoffs)


def spelled(ranges: Ranges) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield ranges in pieces: which of them, the rows of all of them one behind the other, and each row's range, counted within the piece.

    A piece has at most `PAIRS` rows, or is one range.
    """
    ends = np.cumsum(ranges.lengths)
    start = 0
    while start < len(ranges):
        base = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, base + PAIRS, side="right")), start + 1)
        lengths = ranges.lengths[start:stop]
        owners = np.repeat(np.arange(stop - start), lengths)
        rows = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + ranges.starts[start:stop][owners]
        yield slice(start, stop), rows, owners
        start = stop


def different(values: np.ndarray, ranges: Ranges) -> np.ndarray:
    """Return how many different values each range has, int64 `[ranges]`.

    A row counts where the row before it with the same value lies before the range. Such rows are counted by bisection in blocks of 1, 2, 4,
    … rows, sorted; one size of block is held at a time.

    Args:
        values: float64 `[rows]`, none missing.
        ranges: The ranges.
    """
    order = np.argsort(values, kind="stable")
    same = values[order[1:]] == values[order[:-1]]
    earlier = np.full(len(values), -1, dtype=np.int64)
    earlier[order[1:][same]] = order[:-1][same]
    if int(ranges.lengths.sum()) <= 8 * len(values):
        counts = np.zeros(len(ranges), dtype=np.int64)
        for piece, rows, owners in spelled(ranges):
            new = earlier[rows] < ranges.starts[piece][owners]
            counts[piece] = np.bincount(owners[new], minlength=piece.stop - piece.start)
        return counts
    counts = -ranges.starts  # every row before the range is counted below, as what is earlier than it lies before the range too
    size = 1
    while size <= len(values):
        whole = len(values) // size * size
        blocks = np.sort(earlier[:whole].reshape(-1, size), axis=1)
        keyed = (blocks + (len(values) + 1) * np.arange(len(blocks))[:, None]).ravel()
        chosen = np.flatnonzero(ranges.stops & size)
        block = ranges.stops[chosen] // (2 * size) * 2
        counts[chosen] += np.searchsorted(keyed, ranges.starts[chosen] + (len(values) + 1) * block) - block * size
        size *= 2
    return counts
