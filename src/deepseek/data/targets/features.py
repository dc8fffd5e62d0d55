"""No target at all: what is wanted is what the network itself makes of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from deepseek.data.targets.base import TargetTransform
from deepseek.data.targets.spec import TargetSpec
from deepseek.errors import InputError
from deepseek.fields import Field, TargetKind

if TYPE_CHECKING:
    import pyarrow as pa

    from deepseek.data.transforms.base import Array


class FeaturesTarget(TargetTransform):
    """Stands where a target would: embedding needs none.

    Args:
        fields: Nothing.
    """

    kind: ClassVar[TargetKind] = "features"
    in_inputs = True

    def __init__(self, fields: Sequence[Field], /) -> None:
        if fields:
            raise InputError(f"embedding is given the target {fields[0].name!r}", hint="it predicts nothing")
        super().__init__(fields)
        self._set(TargetSpec("features", ()))

    @property
    def names(self) -> tuple[str, ...]:
        """Nothing: there is no array of its own."""
        return ()

    def missing(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: no row lacks anything."""
        return np.zeros(batch.num_rows, dtype=bool)

    def observe(self, batch: pa.RecordBatch) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return nothing."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Do nothing."""
        return self
