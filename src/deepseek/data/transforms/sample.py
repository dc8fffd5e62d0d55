"""A bounded sample of rows that stream by, and its quantiles."""

from __future__ import annotations

import numpy as np

from deepseek.statistics.sample import mix64

SAMPLE_ROWS = 200_000
SAMPLE_CELLS = 1 << 25
"""256 MiB of float64: a table of more than 167 columns keeps fewer rows."""


class RowSample:
    """A uniform sample of rows without replacement that depends on the rows' positions only, not on how they are cut into batches.

    Each position has a fixed pseudo-random rank (splitmix64, Steele, Lea and Flood 2014, https://doi.org/10.1145/2660193.2660195); the rows
    of the lowest ranks stay. Up to the limit the sample is the whole.

    Args:
        columns: How many columns there are.
        limit: The most rows kept; by default 200 000, fewer for very wide tables.
    """

    def __init__(self, columns: int, *, limit: int | None = None) -> None:
        self._limit = limit or max(1, min(SAMPLE_ROWS, SAMPLE_CELLS // max(columns, 1)))
        self._rows: list[np.ndarray] = [np.empty((0, columns))]
        self._ranks: list[np.ndarray] = [np.empty(0, dtype=np.uint64)]
        self._held = 0
        self._seen = 0
        self._bar = np.uint64(np.iinfo(np.uint64).max)

    def add(self, values: np.ndarray) -> None:
        """Take up float64 `[rows, columns]`."""
        ranks = mix64(np.arange(self._seen, self._seen + len(values), dtype=np.uint64), 0)
        self._seen += len(values)
        chosen = ranks <= self._bar
        self._rows.append(values[chosen])
        self._ranks.append(ranks[chosen])
        self._held += int(chosen.sum())
        if self._held > 2 * self._limit:
            self._shrink()

    def values(self) -> np.ndarray:
        """Return the sample, float64 `[at most limit, columns]`."""
        self._shrink()
        return self._rows[0]

    def _shrink(self) -> None:
        rows, ranks = np.concatenate(self._rows), np.concatenate(self._ranks)
        if len(rows) > self._limit:
            kept = np.sort(np.argpartition(ranks, self._limit - 1)[: self._limit])
            rows, ranks = rows[kept], ranks[kept]
            self._bar = ranks.max()
        self._rows, self._ranks, self._held = [rows], [ranks], len(rows)


def quantiles_of(sample: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return float64 `[levels, columns]`: each column's quantiles, NaN left out; zeros for a column that holds nothing."""
    result = np.zeros((len(levels), sample.shape[1]))
    for index in range(sample.shape[1]):
        column = sample[:, index]
        column = column[~np.isnan(column)]
        if len(column):
            result[:, index] = np.quantile(column, levels)
    return result
