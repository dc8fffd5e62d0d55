"""Numbers far outside what the training rows hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Gt

from deepseek.data.cleaning.base import Cleaner
from deepseek.data.cleaning.selection import choose_columns
from deepseek.data.columns import as_float64, plain, require_columns, with_columns
from deepseek.fields import Kind, Schema
from deepseek.statistics import Moments, QuantileSample

Method = Literal["sigma", "iqr"]
Action = Literal["clip", "null", "drop"]

_WHAT = "the cleaner outliers"
_SAMPLED_VALUES = 10_000_000


class OutlierCleaner(Cleaner):
    """Clips, empties or drops numbers outside bounds that the training rows set.

    `sigma` takes `mean ± k · standard deviation`; `iqr` takes Tukey's fences, `k` interquartile ranges beyond the quartiles (Tukey,
    "Exploratory data analysis", 1977), which a few wild values cannot move. The bounds themselves are inside. Quartiles are exact up to
    100,000 training values a column, then those of a uniform sample of that size (see `QuantileSample`).

    A column whose spread is 0 has no scale and is left as it is: most of it is one value, often zero, and the others are what is worth
    knowing. `to_json` shows null for its bounds. Integer columns keep their type; their bounds are rounded inwards.

    Args:
        columns: The columns to treat, all numbers; where not given, every input that is a number.
        method: `sigma` or `iqr`.
        k: How many standard deviations or interquartile ranges; 3 for `sigma` and 1.5 for `iqr` where not given.
        action: `clip` to the bound, `null` to leave the value missing, `drop` the row from training; elsewhere `drop` clips.
    """

    def __init__(
        self,
        *,
        columns: Sequence[str] | None = None,
        method: Method = "sigma",
        k: Annotated[float, Gt(0)] | None = None,
        action: Action = "clip",
    ) -> None:
        self.columns, self.method, self.action = columns, method, action
        self.k = k if k is not None else {"sigma": 3.0, "iqr": 1.5}[method]
        self._bounds: dict[str, tuple[float, float] | None] = {}
        self._moments: Moments | None = None
        self._samples: list[QuantileSample] = []

    def begin(self, schema: Schema) -> None:
        """Choose the columns and forget what was fitted."""
        self._bounds = dict.fromkeys(choose_columns(schema, self.columns, {Kind.NUMBER}, what=_WHAT))
        count = max(len(self._bounds), 1)
        if self.method == "sigma":
            self._moments = Moments(count)
        else:
            self._samples = [QuantileSample(min(100_000, max(1_000, _SAMPLED_VALUES // count))) for _ in self._bounds]

    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at a batch of training rows."""
        columns = self._numbers(batch)
        if self._moments is not None and columns:
            self._moments.update(np.column_stack(list(columns.values())))
        for sample, values in zip(self._samples, columns.values(), strict=False):
            sample.update(values)

    def finish(self) -> None:
        """Compute the bounds."""
        if self._moments is not None:
            spread = self.k * self._moments.std()
            low, high = self._moments.mean - spread, self._moments.mean + spread
        else:
            quartiles = np.array([sample.quantiles((0.25, 0.75)) for sample in self._samples]).reshape(-1, 2)
            spread = self.k * (quartiles[:, 1] - quartiles[:, 0])
            low, high = quartiles[:, 0] - spread, quartiles[:, 1] + spread
        for i, name in enumerate(self._bounds):
            self._bounds[name] = (float(low[i]), float(high[i])) if spread[i] > 0 else None
        self._moments, self._samples = None, []

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch with its outliers clipped or emptied."""
        repaired = {}
        for name, values in self._numbers(batch).items():
            bounds = self._bounds[name]
            if bounds is not None:
                repaired[name] = self._repaired(plain(batch.column(name)), values, bounds)
        return with_columns(batch, repaired)

    def drop(self, batch: pa.RecordBatch) -> np.ndarray | None:
        """Return true for training rows that hold an outlier, where the action is `drop`."""
        if self.action != "drop":
            return None
        out = np.zeros(batch.num_rows, dtype=bool)
        for name, values in self._numbers(batch).items():
            bounds = self._bounds[name]
            if bounds is not None:
                out |= (values < bounds[0]) | (values > bounds[1])
        return out

    def to_json(self) -> dict[str, Any]:
        """Return each column's bounds, null where it has none."""
        return {"bounds": {name: None if bounds is None else list(bounds) for name, bounds in self._bounds.items()}}

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._bounds = {name: None if bounds is None else (bounds[0], bounds[1]) for name, bounds in state["bounds"].items()}
        return self

    def _numbers(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        require_columns(self._bounds, batch.schema.names, what=_WHAT)
        return {name: as_float64(plain(batch.column(name))) for name in self._bounds}

    def _repaired(self, column: pa.Array, values: np.ndarray, bounds: tuple[float, float]) -> pa.Array:
        if pa.types.is_null(column.type):
            return column  # rows of production may lack a value throughout
        below, above = pa.array(values < bounds[0]), pa.array(values > bounds[1])
        if self.action == "null":
            return pc.if_else(pc.or_(below, above), pa.scalar(None, column.type), column)
        low, high = _fitting(bounds, column.type)
        return pc.if_else(below, low, pc.if_else(above, high, column))


def _fitting(bounds: tuple[float, float], kind: pa.DataType) -> tuple[pa.Scalar, pa.Scalar]:
    low, high = bounds
    if pa.types.is_integer(kind):
        limits = np.iinfo(kind.to_pandas_dtype())
        whole = (max(int(np.ceil(low)), int(limits.min)), min(int(np.floor(high)), int(limits.max)))
        return pa.scalar(whole[0], kind), pa.scalar(whole[1], kind)
    return pa.scalar(low, pa.float64()).cast(kind, safe=False), pa.scalar(high, pa.float64()).cast(kind, safe=False)
