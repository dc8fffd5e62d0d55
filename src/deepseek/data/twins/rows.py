"""Rows that are the same once their numbers are rounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import as_float64, get_column, hash_rows, is_number, is_text, plain
from deepseek.data.known_hashes import KnownHashes
from deepseek.data.twins.found import EXAMPLES, Match, Near, Twins
from deepseek.data.twins.search import BATCH_ROWS, Search, Sides

GRID = 1e-4
"""Numbers that differ by less than this part of their column's spread are the same, but for those beside an edge of the grid."""
BY_CHANCE = 0.01
"""Where more rows than this part of those measured might have a twin by chance, rounded rows tell nothing and are not compared."""
_Typed = Callable[[pa.RecordBatch], pa.RecordBatch]


def table_twins(sides: Sides, columns: Sequence[str], *, sample: pa.Table, typed: _Typed, seed: int = 0) -> Twins:
    """Return the rows whose values are those of a training row once numbers are rounded, and case and blanks left aside.

    Two grids, half a step apart, are tried: a pair is told of where it falls together in one of them. A table of few or coarse columns, in
    which strangers may well agree, is not compared: `looked_at` is then 0. How often they might is the product of how often two rows agree
    in each column, of which the root is taken as columns go together.

    Args:
        sides: The rows.
        columns: The columns of numbers, names and times.
        sample: Training rows that say how much numbers spread.
        typed: Gives rows the types of training (`Preparation.typed`).
        seed: Says which rows are drawn, where there are many.
    """
    view = _GridView(columns, sample, typed)
    what = "the row, rounded"
    if len(sides.train[1]) * view.chance(sample) ** 0.5 > BY_CHANCE:
        nothing = np.empty(0, dtype=np.int64)
        return Twins([Near(what, part, 0, len(rows), nothing) for part, (_, rows) in sides.measured.items()])
    return Search(sides, columns, view, what=what, seed=seed).twins()


class _GridView:
    """Rows as hashes of rounded values."""

    batch_rows = 16 * BATCH_ROWS

    def __init__(self, columns: Sequence[str], sample: pa.Table, typed: _Typed) -> None:
        self._columns, self._typed = list(columns), typed
        self._steps: dict[str, float] = {}
        batch = typed(pa.record_batch([plain(sample[name].combine_chunks()) for name in self._columns], names=self._columns))
        for name in self._columns:
            values = _as_numbers(get_column(batch, name))
            finite = None if values is None else values[np.isfinite(values)]
            if finite is not None and len(finite):
                self._steps[name] = GRID * _spread(finite)

    def seen(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return two hashes a row, uint64 `[n, 2]`."""
        batch = self._typed(batch)
        hashes = np.empty((2, batch.num_rows), dtype=np.uint64)
        for grid, shift in zip(hashes, (0.0, 0.5), strict=True):
            grid[:] = hash_rows(self._rounded(batch, shift), self._columns)
        return hashes.T

    def chance(self, sample: pa.Table) -> float:
        """Return how likely two strangers agree in every column, if columns knew nothing of each other."""
        batch = self._typed(pa.record_batch([plain(sample[name].combine_chunks()) for name in self._columns], names=self._columns))
        rounded, likely = self._rounded(batch, 0.0), 1.0
        for column in rounded.columns:
            counts = pc.value_counts(column).field("counts").to_numpy().astype(np.float64)
            pairs = len(column) * (len(column) - 1.0)
            likely *= max(float((counts * (counts - 1)).sum()), 1.0) / max(pairs, 1.0)
        return likely

    def _rounded(self, batch: pa.RecordBatch, shift: float) -> pa.RecordBatch:
        columns = []
        for name in self._columns:
            column = plain(get_column(batch, name))
            values = _as_numbers(column)
            if values is None:
                columns.append(pc.utf8_lower(pc.utf8_trim_whitespace(column)) if is_text(column.type) else column)
                continue
            cells = np.floor(values / self._steps.get(name, 1.0) + shift)
            columns.append(pa.array(np.where(np.isfinite(cells), cells, np.nan), from_pandas=True))
        return pa.record_batch(columns, names=self._columns)

    @staticmethod
    def kept(seen: np.ndarray) -> np.ndarray:
        """Return what is held of measured rows: their hashes."""
        return seen

    def held(self, rows: np.ndarray, kept: list[np.ndarray]) -> _HeldRows:
        """Return the rows to compare with."""
        hashes = np.concatenate(kept) if kept else np.empty((0, 2), dtype=np.uint64)
        return _HeldRows(rows, [KnownHashes(grid) for grid in hashes.T])


@dataclass
class _HeldRows:
    rows: np.ndarray
    grids: list[KnownHashes]

    @property
    def looked_at(self) -> int:
        return len(self.rows)

    def match(self, seen: np.ndarray) -> Match:
        """Return what has the same hash on either grid among rows that pass by."""
        mine, theirs = np.zeros(len(self.rows), dtype=bool), np.zeros(len(seen), dtype=bool)
        pairs: list[tuple[int, int, float]] = []
        for held, passing in zip(self.grids, seen.T, strict=True):
            places = held.places(passing)
            if not len(places):
                continue
            both, firsts = np.unique(passing[places], return_index=True)
            here, every = held.known_by(both)
            mine[every] = theirs[places] = True
            there = places[firsts]
            pairs += [(int(self.rows[one]), int(other), 1.0) for one, other in zip(here[:EXAMPLES], there[:EXAMPLES], strict=True)]
        return Match(self.rows[mine], np.flatnonzero(theirs), pairs)


def _spread(values: np.ndarray) -> float:
    """Return how far values lie apart, whatever a few of them do: four fifths of them, in standard deviations of a normal law."""
    low, high = np.quantile(values, [0.1, 0.9])
    return float((high - low) / 2.563) or float(values.std()) or 1.0


def _as_numbers(column: pa.Array) -> np.ndarray | None:
    values = plain(column)
    if pa.types.is_temporal(values.type) and not pa.types.is_duration(values.type) and not pa.types.is_time(values.type):
        values = values.cast(pa.timestamp("us")).cast(pa.int64())
    return as_float64(values) if is_number(values.type) or pa.types.is_duration(values.type) else None
