"""Points in time: parsed on the host, turned into scaled days and circles of day, week and year inside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.transforms.base import Array, InputSpec, Transform
from deepseek.data.transforms.columns import get_column
from deepseek.data.transforms.sample import RowSample, quantiles_of
from deepseek.errors import ColumnError, DataError, InputError
from deepseek.fields import Field, Kind
from deepseek.statistics import Moments

if TYPE_CHECKING:
    from deepseek.data.transforms.modules import TimestampModule

DAY_US = 86_400_000_000
PARTS = ("day_sin", "week_sin", "year_sin", "day_cos", "week_cos", "year_cos", "month")
QUANTILE_STEPS = 49
_ISO = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
_MONTH_FIRST = ("%m/%d/%YT%H:%M:%S%.f", "%m/%d/%YT%H:%M", "%m/%d/%Y")
_DAY_FIRST = ("%d/%m/%YT%H:%M:%S%.f", "%d/%m/%YT%H:%M", "%d/%m/%Y")
_DOTTED = ("%d.%m.%YT%H:%M:%S%.f", "%d.%m.%YT%H:%M", "%d.%m.%Y")


class TimestampTransform(Transform):
    """Turns all columns of dates and times into one float32 input.

    Trend and season are different things: days since the training rows' median carry the first, sines and cosines of the time of day, the
    day of the week and the day of the year the second, so that midnight is next to 23:59 and the New Year next to December.

    Args:
        fields: The columns; Arrow dates and times, texts, or whole numbers since 1970 (their size tells seconds from milli-, micro- and
            nanoseconds).
        name: The name of the input.
        day_first: Whether `03/04/2025` is the third of April; texts like `2025-04-03` and `03.04.2025` are read alike either way.
    """

    def __init__(self, fields: Sequence[Field], name: str | None = None, /, *, day_first: bool = False) -> None:
        super().__init__(fields, name or "timestamps")
        self.day_first = day_first
        self._columns = [field.name for field in self.fields]
        self._rows = 0
        self._moments = Moments(len(self._columns))
        self._sample = RowSample(len(self._columns))
        self._state: dict[str, Any] = {}
        self._spec: InputSpec | None = None

    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at a batch of training rows."""
        days = self._microseconds(batch) / DAY_US
        self._rows += len(days)
        self._moments.update(days)
        self._sample.add(days)

    def finish(self) -> None:
        """Compute median, spread and quantiles."""
        if not self._rows:
            raise DataError(f"no training row was seen for the times {', '.join(self._columns)}", hint="is the training split empty?")
        sample = self._sample.values()
        missing = np.flatnonzero(self._moments.count < self._rows)
        middle = quantiles_of(sample, np.array([0.5]))[0]
        scale = np.where(self._moments.std() > 0, self._moments.std(), 1.0)
        self._state = {"offset": np.floor(middle).tolist(), "scale": scale.tolist(), "indicators": missing.tolist()}
        self._spec = self._describe(sample)
        self._rows, self._moments, self._sample = 0, Moments(len(self._columns)), RowSample(len(self._columns))

    def _describe(self, sample: np.ndarray) -> InputSpec:
        import torch

        with torch.no_grad():
            out = self.module()(torch.from_numpy(self._parts(sample * DAY_US))).numpy().astype(np.float64)
        columns = (*self._columns, *(f"{column}_{part}" for part in PARTS for column in self._columns))
        names = (*columns, *(f"{self._columns[index]}_missing" for index in self._state["indicators"]))
        quantiles = quantiles_of(out, np.linspace(0, 1, QUANTILE_STEPS)).T.astype(np.float32)
        quantiles[len(columns) :] = np.linspace(0, 1, QUANTILE_STEPS)
        return InputSpec(
            str(self.name), Kind.NUMBER, names, (5 * len(self._columns),), "float32", quantiles=np.ascontiguousarray(quantiles)
        )

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The one input of all times."""
        if self._spec is None:
            raise InputError("the transform of timestamps is not fitted", hint="call observe and finish, or load_json, first")
        return (self._spec,)

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return float32 `[rows, 5 columns]`: days since the training median, shares of day, week and year, months; NaN where missing."""
        return {str(self.name): self._parts(self._microseconds(batch))}

    def module(self) -> TimestampModule:
        """Return the arithmetic: `[b, 5 columns]` to `[b, 8 columns + indicators]`."""
        from deepseek.data.transforms.modules import TimestampModule

        return TimestampModule(self._state["scale"], self._state["indicators"])

    def to_json(self) -> dict[str, Any]:
        """Return median and spread and the description of the input."""
        return {**self._state, "spec": self.inputs[0].to_json()}

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._state = {key: value for key, value in state.items() if key != "spec"}
        self._spec = InputSpec.from_json(state["spec"])
        return self

    def _microseconds(self, batch: pa.RecordBatch) -> np.ndarray:
        values = np.empty((batch.num_rows, len(self._columns)))
        for index, name in enumerate(self._columns):
            moments = parse_times(get_column(batch, name), name, day_first=self.day_first).cast(pa.int64())
            values[:, index] = moments.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return values

    def _parts(self, microseconds: np.ndarray) -> np.ndarray:
        missing = np.isnan(microseconds)
        moments = np.where(missing, 0, microseconds).astype("datetime64[us]")
        days = moments.astype("datetime64[D]")
        day = (moments - days).astype(np.float64) / DAY_US
        week = ((days.astype(np.int64) + 3) % 7 + day) / 7  # 1 January 1970 was a Thursday
        year = ((days - moments.astype("datetime64[Y]")).astype(np.float64) + day) / 365.25
        month = moments.astype("datetime64[M]").astype(np.int64) % 12 + 1.0
        since = days.astype(np.float64) - np.array(self._state["offset"]) + day
        parts = np.concatenate([since, day, week, year, month], axis=1)
        parts[np.tile(missing, (1, 5))] = np.nan
        return parts.astype(np.float32)


def parse_times(column: pa.Array, name: str, *, day_first: bool = False) -> pa.Array:
    """Return a column of dates, times, texts or numbers since 1970 as timestamps in microseconds, UTC where a zone was given.

    Raises:
        DataError: A text is no date; the message names column, row and text.
        ColumnError: The column's type holds no times.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return column.cast(pa.timestamp("us", tz=kind.tz), safe=False).cast(pa.int64()).cast(pa.timestamp("us"))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_null(kind):
        return column.cast(pa.timestamp("us"), safe=False)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _from_numbers(column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _from_texts(column, name, day_first=day_first)
    raise ColumnError(f"the column {name!r} holds {kind}, which is no time", hint="say what it is in the recipe under data.kinds")


def _from_numbers(column: pa.Array) -> pa.Array:
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    size = np.abs(values)
    micro = values * np.select([size < 1e11, size < 1e14, size < 1e17], [1e6, 1e3, 1.0], 1e-3)
    known = np.isfinite(micro)
    return pa.array(np.where(known, micro, 0).astype(np.int64), mask=~known).cast(pa.timestamp("us"))


def _from_texts(column: pa.Array, name: str, *, day_first: bool) -> pa.Array:
    import polars as pl

    given = pc.utf8_trim_whitespace(column.cast(pa.string()))
    texts = pl.Series(pc.if_else(pc.equal(given, ""), pa.scalar(None, pa.string()), given))
    plain = texts.str.replace(r"^(\d{4})/(\d{1,2})/(\d{1,2})", "$1-$2-$3").str.replace(r"^(\d\S*)\s+", "${1}T").str.replace(r"Z$", "+00:00")
    parsed = pl.Series([None] * len(texts), dtype=pl.Datetime("us"))
    for form in (*_ISO, *(_DAY_FIRST if day_first else _MONTH_FIRST), *_DOTTED):
        if parsed.null_count() == texts.null_count():
            break
        zoned = form.endswith("z")
        if form.endswith(("%d", "%Y")):
            times = plain.str.to_date(form, strict=False).cast(pl.Datetime("us"))
        else:
            times = plain.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC" if zoned else None)
        parsed = parsed.zip_with(parsed.is_not_null(), times.dt.replace_time_zone(None) if zoned else times)
    if parsed.null_count() > texts.null_count():
        row = int((parsed.is_null() & texts.is_not_null()).arg_true()[0])
        raise DataError(
            f"the column {name!r} is a time, but row {row} of the batch holds {texts[row]!r}",
            hint="write times as 2025-04-03 or 2025-04-03 14:30:00, or call the column a category under data.kinds",
        )
    return parsed.to_arrow()
