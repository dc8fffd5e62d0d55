"""Missing values: filled with a statistic of the training rows, a constant, or the value before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.cleaning.base import Cleaner
from deepseek.data.cleaning.selection import choose_columns
from deepseek.data.columns import as_float64, is_number, missing, plain, require_columns, with_columns
from deepseek.errors import ColumnError, DataError, InputError
from deepseek.fields import Field, Kind, Schema
from deepseek.statistics import Moments, QuantileSample, TopCounts

Strategy = Literal["median", "mean", "mode", "constant", "forward_fill"]
Filling = bool | int | float | str

_WHAT = "the cleaner missing"
_SAMPLED_VALUES = 10_000_000
_COMMON = frozenset({Kind.NUMBER, Kind.CATEGORY, Kind.BINARY, Kind.TEXT})


class MissingCleaner(Cleaner):
    """Fills missing values, which NaN is as well as null.

    Columns of integers become float64 under `median` and `mean`, whose value need not be whole; under the others a column keeps its type.

    The median is exact up to 100,000 training values a column (fewer in tables of more than a hundred columns, which share ten million) and
    beyond that the median of a uniform sample of that size, which does not depend on how the rows were cut into batches. The mode is the
    most frequent value, the smallest among equals.

    `forward_fill` takes the last value of the rows before, of the same batch or, between `start()` and the end of a pass, of the batches
    before. What comes before the first value stays missing; nothing is fitted.

    Args:
        columns: The columns to fill; where not given, every input whose kind the strategy can treat.
        strategy: `median` and `mean` for numbers; `mode` for numbers, categories and text; `constant`; `forward_fill`.
        value: What `constant` fills in; every column treated must be able to hold it.
        indicator: Whether to add a column `NAME_missing`, true where a value was missing, for each column treated.
    """

    def __init__(
        self,
        *,
        columns: Sequence[str] | None = None,
        strategy: Strategy = "median",
        value: Filling | None = None,
        indicator: bool = False,
    ) -> None:
        if (strategy == "constant") != (value is not None):
            raise InputError(f"{_WHAT} was given strategy={strategy!r}, value={value!r}", hint="constant needs a value, the others none")
        self.columns, self.strategy, self.value, self.indicator = columns, strategy, value, indicator
        self._treated: tuple[str, ...] = ()
        self._fill: dict[str, Filling] = {}
        self._moments: Moments | None = None
        self._samples: dict[str, QuantileSample] = {}
        self._counts: dict[str, TopCounts] = {}
        self._before: dict[str, pa.Scalar] | None = None

    @property
    def added(self) -> tuple[Field, ...]:
        """The indicator columns."""
        return tuple(Field(f"{name}_missing", Kind.BINARY, nullable=False) for name in self._treated) if self.indicator else ()

    def begin(self, schema: Schema) -> None:
        """Choose the columns and forget what was fitted."""
        self._treated = choose_columns(schema, self.columns, self._kinds(), what=_WHAT)
        for field in self.added:
            if field.name in schema.names:
                raise ColumnError(f"{_WHAT} would add the column {field.name!r}, which is in the table already", hint="rename that one")
        self._fill = dict.fromkeys(self._treated, self.value) if self.value is not None else {}
        self._before = None
        if self.strategy == "mean":
            self._moments = Moments(max(len(self._treated), 1))
        elif self.strategy == "median":
            capacity = min(100_000, max(1_000, _SAMPLED_VALUES // max(len(self._treated), 1)))
            self._samples = {name: QuantileSample(capacity) for name in self._treated}
        elif self.strategy == "mode":
            self._counts = {name: TopCounts() for name in self._treated}

    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at a batch of training rows."""
        require_columns(self._treated, batch.schema.names, what=_WHAT)
        if self._moments is not None and self._treated:
            self._moments.update(np.column_stack([as_float64(plain(batch.column(name))) for name in self._treated]))
        for name, sample in self._samples.items():
            sample.update(as_float64(plain(batch.column(name))))
        for name, counts in self._counts.items():
            values = plain(batch.column(name))
            counted = pc.value_counts(values.filter(pa.array(~missing(values))))
            counts.update(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))

    def finish(self) -> None:
        """Compute what is filled in."""
        fitted: dict[str, Filling | None] = {}
        if self._moments is not None:
            known = self._moments.count > 0
            fitted = {name: float(self._moments.mean[i]) if known[i] else None for i, name in enumerate(self._treated)}
        for name, sample in self._samples.items():
            fitted[name] = float(sample.quantiles(0.5)) if sample.count else None
        for name, counts in self._counts.items():
            fitted[name] = counts.most_common(1)[0][0] if counts.total else None
        for name, value in fitted.items():
            if value is None:
                raise DataError(
                    f"{_WHAT} cannot fit the {self.strategy} of {name!r}: no training row has a value there",
                    hint="leave the column out, or fill it with strategy: constant",
                )
            self._fill[name] = value
        self._moments, self._samples, self._counts = None, {}, {}

    def start(self) -> None:
        """Begin a pass over a table: from here `forward_fill` carries the last value from batch to batch."""
        self._before = {}

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch with its missing values filled and the indicators added."""
        require_columns(self._treated, batch.schema.names, what=_WHAT)
        filled, holes = {}, {}
        for name in self._treated:
            values = plain(batch.column(name))
            absent = pa.array(missing(values))
            filled[name] = self._forward(name, values, absent) if self.strategy == "forward_fill" else self._filled(name, values, absent)
            if self.indicator:
                holes[f"{name}_missing"] = absent
        batch = with_columns(batch, filled)
        fields = [pa.field(name, pa.bool_(), nullable=False) for name in holes]
        schema = pa.schema([*batch.schema, *fields], metadata=batch.schema.metadata)
        return pa.RecordBatch.from_arrays([*batch.columns, *holes.values()], schema=schema) if holes else batch

    def to_json(self) -> dict[str, Any]:
        """Return the columns and what is filled into each."""
        return {"columns": list(self._treated), "fill": dict(self._fill)}

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._treated, self._fill, self._before = tuple(state["columns"]), dict(state["fill"]), None
        return self

    def _kinds(self) -> frozenset[Kind]:
        if self.strategy in {"median", "mean"}:
            return frozenset({Kind.NUMBER})
        if self.strategy == "constant" and self.columns is None:
            numeric = isinstance(self.value, int | float) and not isinstance(self.value, bool)
            return frozenset({Kind.NUMBER}) if numeric else frozenset({Kind.CATEGORY, Kind.TEXT})
        return _COMMON | {Kind.TIMESTAMP} if self.strategy == "forward_fill" else _COMMON

    def _filled(self, name: str, values: pa.Array, absent: pa.Array) -> pa.Array:
        if self.strategy in {"median", "mean"} and not pa.types.is_floating(values.type):
            values = pa.array(as_float64(values))
        if pa.types.is_null(values.type):
            return pa.array([self._fill[name]] * len(values))
        try:
            value = pa.scalar(self._fill[name], values.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            raise ColumnError(f"{_WHAT} cannot put {self._fill[name]!r} into the column {name!r} of type {values.type}") from None
        return pc.if_else(absent, value, values)

    def _forward(self, name: str, values: pa.Array, absent: pa.Array) -> pa.Array:
        holes = pc.if_else(absent, pa.scalar(None, values.type), values) if is_number(values.type) else values
        before = (self._before or {}).get(name)
        filled = pc.fill_null_forward(holes)
        if before is not None:
            filled = filled.fill_null(before)
        if self._before is not None and len(filled) and filled[-1].is_valid:
            self._before[name] = filled[-1]
        return filled
