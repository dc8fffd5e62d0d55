"""The rows on which the ranges of activations are measured: training rows, prepared as the network is given them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from deepseek.errors import InputError

BATCH_ROWS = 32
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Calibration:
    """Batches of prepared arrays.

    Attributes:
        batches: What a network is given, by name, batch by batch.
    """

    batches: tuple[Arrays, ...]

    @classmethod
    def of(cls, rows: Iterable[pa.RecordBatch], arrays: Callable[[pa.RecordBatch], Arrays], *, most: int) -> Calibration:
        """Prepare rows.

        Args:
            rows: Rows of the training data; never those that the result is judged on.
            arrays: Prepares them: `Predictor.arrays`.
            most: How many are taken, from the beginning.

        Raises:
            InputError: There is none.
        """
        batches = tuple(arrays(batch) for batch in _cut(rows, most) if batch.num_rows)
        if not batches:
            raise InputError("there is no training row to measure ranges on", hint="give rows to calibrate on")
        return cls(batches)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(len(next(iter(batch.values()))) for batch in self.batches)

    def first(self, rows: int) -> Calibration:
        """Return the first batches that hold so many rows, at least one batch."""
        taken, count = [], 0
        for batch in self.batches:
            if count >= rows:
                break
            taken.append(batch)
            count += len(next(iter(batch.values())))
        return Calibration(tuple(taken))

    def cut(self, rows: int) -> Calibration:
        """Return the same rows in batches of at most so many."""
        return Calibration(
            tuple(
                {name: array[start : start + rows] for name, array in batch.items()}
                for batch in self.batches
                for start in range(0, len(next(iter(batch.values()))), rows)
            )
        )


def _cut(rows: Iterable[pa.RecordBatch], most: int) -> Iterator[pa.RecordBatch]:
    left = most
    for batch in rows:
        for start in range(0, min(batch.num_rows, left), BATCH_ROWS):
            yield batch.slice(start, min(BATCH_ROWS, left - start))
        left -= batch.num_rows
        if left <= 0:
            return
