"""Training rows pass by measured ones that are held, once, in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from deepseek.data.landing import LandedTable
from deepseek.data.threads import in_order, threads_here
from deepseek.data.twins.found import Hits, Match, Twins, summed
from deepseek.statistics import mix64

MOST_MEASURED = 50_000
"""Rows of a part that are held."""
BATCH_ROWS = 1_024


@dataclass(frozen=True)
class Sides:
    """The rows of both sides: of each part the table and the numbers of its rows, ascending."""

    train: tuple[LandedTable, np.ndarray]
    measured: Mapping[str, tuple[LandedTable, np.ndarray]]


class Held(Protocol):
    """Measured rows, to be compared with."""

    @property
    def looked_at(self) -> int:
        """How many there are."""

    def match(self, seen: Any) -> Match:
        """Return what is near among training rows that pass by."""


class View(Protocol):
    """A way to look at rows: what is seen of training rows, and what of that is held of measured ones."""

    batch_rows: int

    def seen(self, batch: pa.RecordBatch) -> Any:
        """Return what is seen of rows."""

    def kept(self, seen: Any) -> Any:
        """Return what of that is held."""

    def held(self, rows: np.ndarray, kept: list[Any]) -> Held:
        """Return the rows to compare with."""


class Search:
    """Training rows pass by the measured ones that are held.

    Args:
        sides: The rows.
        columns: The columns that are read.
        view: What is seen of them.
        what: What is compared, in words.
        seed: Says which measured rows are held, where there are many.
    """

    def __init__(self, sides: Sides, columns: Sequence[str], view: View, *, what: str, seed: int) -> None:
        self._sides, self._what, self._seed, self._columns, self._view = sides, what, seed, list(columns), view

    def twins(self) -> Twins:
        """Return what was found, part by part."""
        held: dict[str, Held] = {}
        sizes: dict[str, tuple[int, int]] = {}
        hits: dict[str, Hits] = {}
        for part, (table, rows) in self._sides.measured.items():
            chosen = drawn(rows, self._seed)
            kept = [self._view.kept(self._view.seen(batch)) for _, batch in self._batches(table, chosen)]
            held[part] = self._view.held(chosen, kept)
            sizes[part], hits[part] = (held[part].looked_at, len(rows)), Hits()
        table, rows = self._sides.train

        def matched(passing: tuple[np.ndarray, pa.RecordBatch]) -> tuple[np.ndarray, list[Match]]:
            seen = self._view.seen(passing[1])
            return passing[0], [one.match(seen) for one in held.values()]

        for numbers, found in in_order(matched, self._batches(table, rows), threads=threads_here()):
            for part, match in zip(held, found, strict=True):
                hits[part].add(match, numbers)
        return summed(self._what, sizes, hits)

    def _batches(self, table: LandedTable, rows: np.ndarray) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        start = 0
        for batch in table.batches(rows=rows, columns=self._columns, batch_rows=self._view.batch_rows):
            yield rows[start : start + batch.num_rows], batch
            start += batch.num_rows


def drawn(rows: np.ndarray, seed: int) -> np.ndarray:
    """Return the measured rows that are held: all, or as many as may be, drawn by their numbers and the seed, ascending."""
    if len(rows) <= MOST_MEASURED:
        return rows
    keys = mix64(rows.astype(np.uint64), seed)
    return np.sort(rows[np.argpartition(keys, MOST_MEASURED)[:MOST_MEASURED]])
