"""The contract of every cleaner: a fitted step from table to table, before columns become arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from deepseek.fields import Field, Schema


class Cleaner(ABC):
    """A step that repairs values, fitted on training rows only and applied alike in training, evaluation and production.

    `apply` keeps every row. A cleaner that would rather lose a row says so through `drop`, which is asked only while training rows are
    prepared; elsewhere such rows are kept as `apply` leaves them.
    """

    def begin(self, schema: Schema) -> None:
        """Learn which columns there are, before the first batch; settle which of them this step treats."""

    @property
    def added(self) -> tuple[Field, ...]:
        """The columns that `apply` adds to the table, known after `begin`."""
        return ()

    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at a batch of training rows."""

    def finish(self) -> None:
        """End the pass over the training rows: compute the statistics."""

    def start(self) -> None:
        """Begin a pass over one table: the batches that follow come in order, each once, through `drop` (training only) and `apply`.

        What a step carries from batch to batch (the last value, the rows seen) is forgotten. Where it is never called, as in production,
        `apply` carries nothing: each batch is a table of its own.
        """

    @abstractmethod
    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the repaired batch: the same rows in the same order; columns may be added."""

    def drop(self, batch: pa.RecordBatch) -> np.ndarray | None:
        """Return a boolean array `[rows]`, true for training rows to leave out, or nothing.

        It is given the batch as `apply` is to get it, not as `apply` returns it. Batches come in order, each once.
        """
        return None

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return what was fitted, as plain JSON values."""

    @abstractmethod
    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned, on an object built with the same arguments, and return the object."""
