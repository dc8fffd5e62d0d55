"""The contract of every transform: columns of one kind become arrays, the same way in training, evaluation and production."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from deepseek.fields import Field, Kind

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import nn


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length: `values[offsets[i]:offsets[i + 1]]` is row `i`.

    Attributes:
        values: Every row's values, one after the other, of shape `[total, …]`.
        offsets: int64 of shape `[rows + 1]`, from 0 to `total`.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: np.ndarray) -> Ragged:
        """Return rows in another order, int64 `[b]`, with memory of their own."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return Ragged(self.values[np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])], offsets)


Array = np.ndarray | Ragged


@dataclass(frozen=True)
class InputSpec:
    """What a model meets under one name in `Batch.inputs`.

    Attributes:
        name: The key in the batch.
        kind: What a model is to treat it as. One-hot, target-encoded and timestamp columns leave `module()` as numbers, and are numbers
            here.
        columns: The names of the last dimension as it leaves `module()`, indicator columns included (one, for an image).
        shape: One row's shape as stored, before `module()`, without the batch dimension; of a ragged input, one element's.
        dtype: The stored array's NumPy type: `float32`, `int32`, `uint8` …
        cardinalities: For categories, how many codes each column has; code 0 stands for missing and unknown.
        quantiles: For numbers, float32 `[columns, q]`: quantiles of the training rows as they leave `module()` (in the model's units),
            from which numeric embeddings take their bins.
        ragged: Whether rows are of unequal length (texts): the batch then holds `NAME` `[b, l, *shape]`, zeros behind each row's end, and
            `NAME_mask` `[b, l]`, true where an element is real. No row is empty.
        horizon: Of a forecast's inputs, how many steps lie ahead: of the history those that are to be predicted, of what is known in
            advance the last ones of its own; 0 elsewhere.
    """

    name: str
    kind: Kind
    columns: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    cardinalities: tuple[int, ...] = ()
    quantiles: np.ndarray | None = field(default=None, compare=False)
    ragged: bool = False
    horizon: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the description as plain JSON values."""
        ahead = {"horizon": self.horizon} if self.horizon else {}
        return ahead | {
            "name": self.name,
            "kind": self.kind.value,
            "columns": list(self.columns),
            "shape": list(self.shape),
            "dtype": self.dtype,
            "cardinalities": list(self.cardinalities),
            "quantiles": None if self.quantiles is None else self.quantiles.tolist(),
            "ragged": self.ragged,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> InputSpec:
        """Return the description that `to_json` wrote."""
        quantiles = value["quantiles"]
        return cls(
            value["name"],
            Kind(value["kind"]),
            tuple(value["columns"]),
            tuple(value["shape"]),
            value["dtype"],
            tuple(value["cardinalities"]),
            None if quantiles is None else np.asarray(quantiles, dtype=np.float32),
            bool(value.get("ragged", False)),
            int(value.get("horizon", 0)),
        )


class Transform(ABC):
    """A step from columns to arrays: host work here (strings, decoding), arithmetic in `module()`, which is exported with the model.

    One transform object treats all columns of its kind at once, so that a table of a thousand numbers is one array and one operation.

    Args:
        fields: The columns it is given, all of one kind. It reads exactly these, by name.
        name: The name of its input in the batch; its class's own where not given, so that two transforms of one class can stand side by
            side.

    Attributes:
        ragged: Whether the rows of its input are of unequal length.
        uses_target: Whether it learns from the target too (target encoding), and so treats training rows in its own way.
        warnings: What the user should know of the training rows; known after `finish`.
    """

    ragged = False
    uses_target = False
    warnings: tuple[str, ...] = ()

    def __init__(self, fields: Sequence[Field], name: str | None = None, /) -> None:
        self.fields = tuple(fields)
        self.name = name

    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at a batch of training rows (after cleaning)."""

    def observe_target(self, target: np.ndarray) -> None:
        """Look at the targets of the rows that `observe` has just seen, only where `uses_target`.

        Args:
            target: float64 `[rows, k]`: one column for binary targets and for each value, one 0/1 column a class or label otherwise.
        """

    def finish(self) -> None:
        """End the pass over the training rows: compute the statistics."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[InputSpec, ...]:
        """What `apply` returns, described; known after `finish` or `load_json`."""

    @abstractmethod
    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return the arrays of a batch, by input name, each with as many rows as the batch.

        Values never seen in training are legal: an unknown category is code 0, a missing number NaN.

        Raises:
            DataError: A value cannot be turned into what the field is; the message names the column, the row in the batch and the value.
        """

    def apply_training(self, batch: pa.RecordBatch, start: int) -> dict[str, Array]:
        """Return the arrays of training rows: what `apply` returns, unless a row's own target would be in it.

        Args:
            batch: Rows that `observe` has seen, in the same order.
            start: How many training rows came before.
        """
        return self.apply(batch)

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: true where `apply` cannot read the value (a corrupt image); asked only after it has failed."""
        return np.zeros(batch.num_rows, dtype=bool)

    def unknown(self, batch: pa.RecordBatch) -> dict[str, tuple[int, int]]:
        """Return, by column, how many values of a batch training did not know and how many are not missing.

        Columns are left out where training itself passed values over, since then unknown ones are nothing new.
        """
        return {}

    def module(self) -> nn.Module | None:
        """Return the part that runs inside the model, on tensors `[rows, …]` of this transform's single input, or nothing.

        Of a ragged input it is given `[rows, l, …]` and the mask `[rows, l]`, and returns both as the encoders are to meet them. A module
        may have a method `present` of the same arguments, which says of each row whether there is anything: see `Network`.
        """
        return None

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return what was fitted, as plain JSON values."""

    @abstractmethod
    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned, on an object built with the same arguments, and return the object."""
