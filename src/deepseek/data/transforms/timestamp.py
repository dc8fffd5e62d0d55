"""Points in time: parsed on the host, turned into scaled days and circles of day, week and year inside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import as_float64, get_column, is_text, plain
from deepseek.data.timestamps import SINCE, from_numbers, holds_numbers, read_timestamps, unit_of
from deepseek.data.transforms.base import Array, InputSpec, Transform
from deepseek.data.transforms.sample import RowSample, quantiles_of
from deepseek.errors import ColumnError, DataError, InputError, RowError
from deepseek.fields import Field, Kind
from deepseek.fields.timestamps import COMPACT, FORMS, ISO, is_compact
from deepseek.statistics import Moments

if TYPE_CHECKING:
    from deepseek.data.transforms.modules import TimestampModule

DAY_US = 86_400_000_000
PARTS = ("day_sin", "week_sin", "year_sin", "day_cos", "week_cos", "year_cos", "month")
QUANTILE_STEPS = 49
SINCE_1970 = "since 1970"
"""The form of numbers that are no dates like 20240131, for as long as their unit is not known."""
_FIRST = 100


class TimestampTransform(Transform):
    """Turns all columns of dates and times into one float32 input.

    Trend and season are different things: days since the training rows' median carry the first, sines and cosines of the time of day, the
    day of the week and the day of the year the second, so that midnight is next to 23:59 and the New Year next to December.

    The form of a text is found out from all training rows and kept: what production sends is read in the same form, or in ISO 8601, which
    cannot be mistaken. Where every training row can be read day first and month first, it is read day first, and a warning says so. The
    unit of numbers is found out and kept in the same way: that which most of the training rows have by their size.

    Args:
        fields: The columns; Arrow dates and times, texts, whole numbers like 20240131, or numbers since 1970 (their sizes tell seconds from
            milli-, micro- and nanoseconds).
        name: The name of the input.
        format: How text is written, in the notation of `strftime`: `%d.%m.%Y %H:%M`; found out where not given.
    """

    def __init__(self, fields: Sequence[Field], name: str | None = None, /, *, format: str | None = None) -> None:  # noqa: A002 (a key)
        super().__init__(fields, name or "timestamps")
        self.format = format
        self._columns = [field.name for field in self.fields]
        self._state: dict[str, Any] = {}
        self._spec: InputSpec | None = None
        self._begin([])

    def _begin(self, forms: list[dict[str, bool]]) -> None:
        """Start a pass: for each column the forms that may be its own, and whether every text so far could be read in it."""
        width = sum(map(len, forms))
        self._forms = forms
        self._rows, self._moments, self._sample = 0, Moments(width), RowSample(width)

    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at a batch of training rows."""
        if not self._forms:
            self._begin([dict.fromkeys(self._candidates(get_column(batch, name)), True) for name in self._columns])
        days = np.column_stack([part for index in range(len(self._columns)) for part in self._readings(batch, index)])
        self._rows += len(days)
        self._moments.update(days)
        self._sample.add(days)

    def _candidates(self, column: pa.Array) -> tuple[str, ...]:
        values = plain(column)
        if is_text(values.type):
            first = values.slice(0, _FIRST)
            fitting = tuple(form for form in FORMS if _unread(first, parse_times(first, form)) is None)
            return (self.format,) if self.format else fitting or (ISO,)
        if holds_numbers(values.type):
            return (COMPACT, SINCE_1970) if pa.types.is_integer(values.type) and is_compact(values) else (SINCE_1970,)
        return (ISO,)

    def _readings(self, batch: pa.RecordBatch, index: int) -> list[np.ndarray]:
        """Return a column's days since 1970 in each form that may be its own, NaN in those that proved not to be.

        Numbers whose unit is not known yet come as they are.

        Raises:
            DataError: None is left.
        """
        name, forms = self._columns[index], self._forms[index]
        column = get_column(batch, name)
        parts, error = [], None
        for form, fits in forms.items():
            days = np.full(batch.num_rows, np.nan)
            if fits:
                try:
                    days = as_float64(column, name) if form == SINCE_1970 else _days(column, name, form)
                except DataError as found:
                    forms[form], error = False, error or found
            parts.append(days)
        if error and not any(forms.values()):
            raise error
        return parts

    def finish(self) -> None:
        """Settle the forms; compute median, spread and quantiles."""
        if not self._rows:
            raise DataError(f"no training row was seen for the times {', '.join(self._columns)}", hint="is the training split empty?")
        starts = np.cumsum([0, *map(len, self._forms)])
        alive = [
            [int(start) + place for place, fits in enumerate(forms.values()) if fits]
            for start, forms in zip(starts[:-1], self._forms, strict=True)
        ]
        every = self._sample.values()
        self._warn(every, alive)
        chosen = [places[0] for places in alive]
        sample, std = every[:, chosen], self._moments.std()[chosen]
        missing = np.flatnonzero(self._moments.count[chosen] < self._rows)
        names = [form for forms in self._forms for form in forms]
        settled = [names[place] for place in chosen]
        for column in (place for place, form in enumerate(settled) if form == SINCE_1970):
            settled[column] = unit_of(sample[:, column])
            sample[:, column] = _in_days(from_numbers(pa.array(sample[:, column]), pattern=settled[column]))
            known = sample[~np.isnan(sample[:, column]), column]
            std[column] = known.std() if len(known) else 0.0
        middle = quantiles_of(sample, np.array([0.5]))[0]
        self._state = {
            "forms": settled,
            "offset": np.floor(middle).tolist(),
            "scale": np.where(std > 0, std, 1.0).tolist(),
            "indicators": missing.tolist(),
        }
        self._spec = self._describe(sample)
        self._begin([])

    def _warn(self, sample: np.ndarray, alive: list[list[int]]) -> None:
        names = [form for forms in self._forms for form in forms]
        self.warnings = tuple(
            f"column {column!r} can be read as {' and as '.join(names[place] for place in differing)}; it is read as {names[places[0]]}: "
            f"say which under data.transforms, as {{{column}: {{type: timestamp, format: '{names[places[0]]}'}}}}"
            for column, places in zip(self._columns, alive, strict=True)
            if names[places[0]] != COMPACT and len(differing := _differing(sample, places)) > 1
        )

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
            values[:, index] = _days(get_column(batch, name), name, self._state["forms"][index]) * DAY_US
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


def parse_times(column: pa.Array, form: str = ISO) -> pa.Array:
    """Return a column of dates, times, texts or numbers since 1970 as timestamps in microseconds, UTC where a zone was given.

    Args:
        column: The column.
        form: How text is written, besides ISO 8601; `%Y%m%d` also says that whole numbers are such dates, one of `SINCE` what they count.

    Returns:
        `timestamp[us]`, null where a text cannot be read.

    Raises:
        ColumnError: The column's type holds no times.
    """
    values = plain(column)
    if holds_numbers(values.type):
        return from_numbers(values, pattern=form)
    if not is_text(values.type) or form in (ISO, SINCE_1970, *SINCE):
        return read_timestamps(values)
    read = read_timestamps(values, pattern=form)
    return read if read.null_count == values.null_count else pc.coalesce(read, read_timestamps(values))


def _days(column: pa.Array, name: str, form: str) -> np.ndarray:
    """Return days since 1970 as float64 `[rows]`, NaN where missing.

    Raises:
        DataError: A value is no time; the message names column, row and value.
        ColumnError: The column's type holds no times.
    """
    try:
        times = parse_times(column, form)
    except ColumnError as error:
        raise ColumnError(f"the column {name!r}: {error.message}", hint="say what it is in the recipe under data.fields") from None
    row = _unread(plain(column), times)
    if row is not None:
        raise RowError(
            row,
            f" holds {column[row].as_py()!r}",
            before=f"the column {name!r} is a time written as {form}, but ",
            hint="write times as 2025-04-03 or 2025-04-03 14:30:00, or call the column a category under data.fields",
        )
    return _in_days(times)


def _in_days(times: pa.Array) -> np.ndarray:
    """Return `timestamp[us]` as days since 1970, float64 `[rows]`, NaN where missing."""
    return np.asarray(times.cast(pa.int64()).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)) / DAY_US


def _unread(values: pa.Array, times: pa.Array) -> int | None:
    """Return the first row that has a value and was not read as a time."""
    if times.null_count == values.null_count:
        return None
    lost = pc.and_(pc.is_null(times), pc.invert(pc.is_null(values, nan_is_null=True)))
    if is_text(values.type):
        lost = pc.and_(lost, pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(values), ""), fill_value=False))
    rows = np.flatnonzero(lost.to_numpy(zero_copy_only=False))
    return int(rows[0]) if len(rows) else None


def _differing(sample: np.ndarray, places: list[int]) -> list[int]:
    """Return the first of the readings, and those that are not the same as it."""
    first = sample[:, places[0]]
    return [places[0], *(place for place in places[1:] if not np.array_equal(first, sample[:, place], equal_nan=True))]
