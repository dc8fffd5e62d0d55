"""A bounded sample of rows that stream by, and its quantiles."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.statistics.sample import mix64

SAMPLE_ROWS = 200_000
SAMPLE_CELLS = 1 << 25
"""256 MiB of float64: a table of more than 167 columns keeps fewer rows."""
SAMPLE_BYTES = 64 << 20
SAMPLE_TEXT = 1 << 16
"""Characters of one text: a single book must not be the whole sample."""


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


class TextSample:
    """A uniform sample of texts of bounded size, which depends on the rows' positions as `RowSample` does.

    The texts of the lowest ranks stay, as many as go into the limit; up to it the sample is the whole. Missing texts are passed over, and
    very long ones are cut.

    Args:
        limit: The most bytes kept.

    Attributes:
        seen: How many texts there were.
    """

    def __init__(self, *, limit: int | None = None) -> None:
        self._limit = limit or SAMPLE_BYTES
        self._texts: list[pa.Array] = []
        self._ranks: list[np.ndarray] = []
        self._held = self._rows = 0
        self._bar: np.uint64 | None = None
        self.seen = 0

    def add(self, texts: pa.Array) -> None:
        """Take up an Arrow column of strings."""
        ranks = mix64(np.arange(self._rows, self._rows + len(texts), dtype=np.uint64), 0)
        self._rows += len(texts)
        self.seen += len(texts) - texts.null_count
        chosen = np.asarray(texts.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
        if self._bar is not None:
            chosen &= ranks < self._bar
        kept = pc.utf8_slice_codeunits(texts.filter(pa.array(chosen)), 0, SAMPLE_TEXT)
        self._texts.append(kept)
        self._ranks.append(ranks[chosen])
        self._held += _bytes(kept)
        if self._held > 2 * self._limit:
            self._shrink()

    def texts(self) -> pa.Array:
        """Return the sample, a column of strings without missing ones, in an order that says nothing."""
        self._shrink()
        return self._texts[0]

    def _shrink(self) -> None:
        texts = pa.concat_arrays([pa.array([], pa.string()), *self._texts])
        ranks = np.concatenate([np.empty(0, dtype=np.uint64), *self._ranks])
        order = np.argsort(ranks)
        texts, ranks = texts.take(pa.array(order)), ranks[order]
        sizes = np.asarray(pc.binary_length(texts).to_numpy(zero_copy_only=False), dtype=np.int64)
        count = max(int(np.searchsorted(np.cumsum(sizes), self._limit, side="right")), min(len(texts), 1))
        if count < len(texts):
            self._bar = ranks[count]  # what comes after the first text that finds no room has none either
            texts = pa.concat_arrays([texts.slice(0, count), pa.array([], pa.string())])  # a copy: the slice would hold all of it
            ranks = ranks[:count]
        self._texts, self._ranks, self._held = [texts], [ranks], _bytes(texts)


def _bytes(texts: pa.Array) -> int:
    return int(pc.sum(pc.binary_length(texts)).as_py() or 0)


def quantiles_of(sample: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return float64 `[levels, columns]`: each column's quantiles, NaN left out; zeros for a column that holds nothing."""
    result = np.zeros((len(levels), sample.shape[1]))
    for index in range(sample.shape[1]):
        column = sample[:, index]
        column = column[~np.isnan(column)]
        if len(column):
            result[:, index] = np.quantile(column, levels)
    return result
