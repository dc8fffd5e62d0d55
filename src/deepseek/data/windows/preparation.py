"""From a long table to windows of arrays: fitted on the steps of the training period, the same for prepared steps and for a window alone.

Two ways lead to a network, through the same transforms: rows of the table become steps, prepared once, of which a batch gathers windows
(`WindowDataset`); and a window by itself, a row whose columns are lists, is prepared as a row of production is (`apply`).

Legend of shapes: `n` steps · `b` windows · `l` steps of a window · `c` target columns · `k` columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import get_column, is_text, plain, to_float64
from deepseek.data.preparation import Aside, Batches, Preparation
from deepseek.data.targets import TargetSpec, build_target
from deepseek.data.transforms import Array, InputSpec
from deepseek.data.transforms.timestamp import parse_times
from deepseek.data.windows.grid import Grid, read_moments
from deepseek.data.windows.rules import HISTORY, HISTORY_KNOWN, ROLES, Role, WindowRules, input_name
from deepseek.errors import ColumnError, DataError, InputError, RowError
from deepseek.fields import Field, Kind, Schema
from deepseek.fields.timestamps import ISO
from deepseek.registry import Spec
from deepseek.statistics import Moments

if TYPE_CHECKING:
    from torch import nn


class WindowPreparation(Preparation):
    """Everything between a long table and a network that forecasts.

    A row of what it prepares is a window: of each target and observed column the list of its last `context` values, of each known column
    that of `context + horizon` values, of each static column one value.

    Args:
        rules: The columns' roles and the windows' lengths.
        fields: What each column of the long table is; only those of a role count.
        grid: The moments on which the series lie.
        transforms: By column or by kind, the transforms that are not the usual ones.
        form: How the time is written, where it is text.

    Attributes:
        rules: As given.
        grid: As given.
        form: As given.
        naive_errors: By series, each target's mean error of the seasonal naive forecast in training, in standard deviations.
    """

    def __init__(
        self,
        rules: WindowRules,
        fields: Sequence[Field],
        *,
        grid: Grid,
        transforms: Mapping[str, Spec] | None = None,
        form: str | None = None,
    ) -> None:
        named = {field.name: field for field in fields}
        self.rules, self.grid, self.form = rules, grid, form
        self._fields = tuple(named[name] for name in rules.inputs)
        super().__init__(_window_schema(rules, named), target="values")
        self._overrides = dict(transforms or {})
        self.roles: dict[Role, Preparation] = {}
        for role in ROLES:
            if columns := rules.columns(role):
                own = [replace(named[name], kind=Kind.TIMESTAMP) if name == rules.time else named[name] for name in columns]
                given = {key: spec for key, spec in self._overrides.items() if key in columns or any(key == one.kind.value for one in own)}
                self.roles[role] = Preparation(Schema(tuple(own)), transforms=given)
        self.naive_errors: dict[str, list[float | None]] = {}
        self._take_parts()

    def _begin(self) -> None:
        """Do nothing: the transforms are those of the roles."""

    def _take_parts(self) -> None:
        self.transforms = [transform for part in self.roles.values() for transform in part.transforms]

    @property
    def left_out(self) -> dict[str, str]:
        """Columns that no transform treats, and why."""
        return {name: why for part in self.roles.values() for name, why in part.left_out.items()}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a window must have."""
        return tuple(name for name in self.rules.inputs if name not in self.left_out)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of the long table that were text in training."""
        return tuple(name for part in self.roles.values() for name in part.text_columns)

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """What a network meets, by name."""
        rules, count = self.rules, len(self.rules.target)
        shape = (rules.context, count)
        specs = [InputSpec(HISTORY, Kind.SERIES, rules.target, shape, "float32", horizon=rules.horizon)]
        if rules.masked:
            specs.append(InputSpec(HISTORY_KNOWN, Kind.SERIES, rules.target, shape, "float32"))
        for role, part in self.roles.items():
            for spec in part.inputs.values():
                named = replace(spec, name=input_name(role, spec.name))
                if length := rules.length(role):
                    ahead = rules.horizon if role == "known" else 0
                    named = replace(named, kind=Kind.SERIES, shape=(length, *spec.shape), quantiles=None, horizon=ahead)
                specs.append(named)
        return {spec.name: spec for spec in specs}

    def graph(self) -> dict[str, nn.Module]:
        """Return the part of the transforms that runs inside the network, by input name."""
        from deepseek.data.windows.modules import PerStep

        return {
            input_name(role, name): module if role == "static" else PerStep(module)
            for role, part in self.roles.items()
            for name, module in part.graph().items()
        }

    def fit(self, batches: Batches) -> WindowPreparation:
        """Learn from the rows of the training period, and no others.

        Args:
            batches: Gives rows of the long table.

        Raises:
            DataError: There is no row, or a target is everywhere missing or the same.
        """
        moments, rows = Moments(len(self.rules.target)), 0
        for batch in batches():
            moments.update(self._targets(batch))
            rows += batch.num_rows
        for name, count, std in zip(self.rules.target, moments.count, moments.std(), strict=True):
            if not count or not std > 0:
                what = "is missing in all" if not count else "is the same in all"
                raise DataError(f"{name!r} {what} {rows:,} rows of the training period", hint="there is nothing to predict")
        spec = TargetSpec("values", self.rules.target, rows=rows, mean=tuple(moments.mean.tolist()), std=tuple(moments.std().tolist()))
        self.target = build_target("values", self.schema.targets).load_json(spec.to_json())
        for role, part in self.roles.items():
            part.fit(lambda role=role: (self.of_role(batch, role) for batch in batches()))  # type: ignore[misc]
        self._settle()
        return self

    def _settle(self) -> None:
        """Take up what the roles have learned: the types of a window's columns."""
        self._take_parts()
        self.types = dict.fromkeys(self.rules.target, pa.list_(pa.float64()))
        for role, part in self.roles.items():
            for name, kind in part.types.items():
                self.types[name] = pa.list_(kind) if self.rules.length(role) else kind

    @property
    def spec(self) -> TargetSpec:
        """What a task has to know of the target."""
        assert self.target is not None, "a forecast has targets"
        return self.target.spec

    def of_role(self, batch: pa.RecordBatch, role: Role) -> pa.RecordBatch:
        """Return the columns of a role, of rows of the long table, the time among them as timestamps."""
        columns = {name: get_column(batch, name) for name in self.rules.columns(role)}
        if self.rules.time in columns:
            columns[self.rules.time] = self.grid.as_arrow(read_moments(batch, self.rules.time, form=self.form)[0])
        return pa.RecordBatch.from_pydict(columns)

    def step_arrays(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Return the arrays of rows of the long table, `[n, …]` by input name: standardised targets under `history`, NaN where missing."""
        arrays: dict[str, np.ndarray] = {HISTORY: self.standardized(self._targets(batch))}
        for role, part in self.roles.items():
            if self.rules.length(role):
                arrays |= _named(self._prepared(part, self.of_role(batch, role)), role)
        return arrays

    def static_arrays(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Return the arrays of what never changes, of one row for each series."""
        part = self.roles.get("static")
        return {} if part is None else _named(self._prepared(part, self.of_role(batch, "static")), "static")

    def _prepared(self, part: Preparation, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return the arrays of a role's columns, and count their values that training did not know."""
        if self._unknown is None:
            return part.apply(batch)
        return part.watched(self._unknown).apply(batch)

    def standardized(self, values: np.ndarray) -> np.ndarray:
        """Return targets `[…, c]` in standard deviations from the training mean, float32; reckoned in float64, as a large mean demands."""
        scaled: np.ndarray = (values - np.array(self.spec.mean)) / np.array(self.spec.std)
        return scaled.astype(np.float32)

    def _targets(self, batch: pa.RecordBatch) -> np.ndarray:
        return np.column_stack([to_float64(get_column(batch, name), name) for name in self.rules.target])

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return the arrays of windows, by input name.

        Raises:
            ColumnError: A column is missing, or holds no lists.
            DataError: A list is of another length than the windows', or a value cannot be what its column is.
        """
        return self.arrays(batch)

    def typed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return windows as they are: their values are brought to the types of training one by one."""
        return batch

    def arrays(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return the arrays of windows; raises as `apply` does."""
        rules, rows = self.rules, batch.num_rows
        past = np.stack([to_float64(_flat(batch, name, rules.context), name) for name in rules.target], axis=-1)
        values, known = carried_forward(self.standardized(past).reshape(rows, rules.context, len(rules.target)))
        arrays: dict[str, Array] = {HISTORY: values, **({HISTORY_KNOWN: known} if rules.masked else {})}
        for role, part in self.roles.items():
            length = rules.length(role)
            columns = {name: _flat(batch, name, length) if length else get_column(batch, name) for name in rules.columns(role)}
            if length and rules.time in columns:
                columns[rules.time] = self._times(columns[rules.time], length)
            made = _named(self._prepared(part, pa.RecordBatch.from_pydict(columns)), role)
            arrays |= {name: array.reshape(rows, length, *array.shape[1:]) if length else array for name, array in made.items()}
        return arrays

    def _times(self, column: pa.Array, length: int) -> pa.Array:
        """Return the times of windows as timestamps, null where one is missing: a served row may lack them, a table may not.

        Text is read as `read_moments` reads a table's: in the form of training, else in ISO 8601.

        Args:
            column: The times, window after window.
            length: How many a window has.

        Raises:
            RowError: A text is no point in time.
        """
        if pa.types.is_null(column.type):
            return column.cast(self.grid.as_arrow(np.empty(0, dtype=np.int64)).type)
        if not is_text(column.type):
            return column
        read = parse_times(column, self.form or ISO)
        if read.null_count == column.null_count:
            return read
        place = int(np.flatnonzero(pc.and_(pc.is_null(read), pc.is_valid(column)).to_numpy(zero_copy_only=False))[0])
        raise RowError(
            place // length,
            f" holds {column[place].as_py()!r}",
            before=f"the column {self.rules.time!r} holds times, but ",
            hint="write times as 2025-04-03 14:30, or null where one is not known",
        )

    def without_target(self) -> WindowPreparation:
        """Return the same preparation: windows that are only answered have no future."""
        return copy(self)

    def with_target(self, batch: pa.RecordBatch, rows: np.ndarray, aside: Aside) -> tuple[pa.RecordBatch, np.ndarray]:
        """Refuse: what a window is measured on lies behind it, and in no row.

        Raises:
            InputError: Always.
        """
        raise InputError("windows cannot be measured row by row", hint="measure a long table: deepseek evaluate RUN TABLE")

    def unknown(self, batch: pa.RecordBatch) -> dict[str, tuple[int, int]]:
        """Return nothing: what training did not know is counted role by role, while the arrays are made."""
        return {}

    def unreadable(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`, all false: no column of a window is a file."""
        return np.zeros(batch.num_rows, dtype=bool)

    def to_json(self) -> dict[str, Any]:
        """Return arguments and everything fitted, as plain JSON values; no row of the data is in it."""
        return {
            "windows": self.rules.to_json(),
            "fields": [field.to_json() for field in self._fields],
            "grid": self.grid.to_json(),
            "form": self.form,
            "overrides": self._overrides,
            "roles": {role: part.to_json() for role, part in self.roles.items()},
            "target": {"kind": "values", "state": self.spec.to_json()},
            "naive_errors": self.naive_errors,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> WindowPreparation:
        """Return the fitted preparation that `to_json` wrote."""
        made = cls(
            WindowRules.from_json(value["windows"]),
            [Field.from_json(field) for field in value["fields"]],
            grid=Grid.from_json(value["grid"]),
            transforms=value["overrides"],
            form=value["form"],
        )
        made.target = build_target("values", made.schema.targets).load_json(value["target"]["state"])
        made.roles = {role: Preparation.from_json(value["roles"][role]) for role in made.roles}
        made.naive_errors = dict(value["naive_errors"])
        made._settle()
        return made


def carried_forward(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return windows with each missing value replaced by the last one known in the window, and where values were known, both float32.

    Before the first known value the training mean stands, which is 0 here. Only the window itself is looked at, so that a window from
    production and one out of training are filled alike.

    Args:
        values: float32 `[b, l, c]`, NaN where missing.

    Example:
        >>> carried_forward(np.array([[[np.nan], [2.0], [np.nan]]], dtype=np.float32))[0].ravel().tolist()
        [0.0, 2.0, 2.0]
    """
    absent = np.isnan(values)
    if not absent.any():
        return values, np.ones_like(values)
    places = np.where(absent, 0, np.arange(values.shape[1])[None, :, None])
    filled = np.take_along_axis(values, np.maximum.accumulate(places, axis=1), axis=1)
    return np.nan_to_num(filled, nan=0.0), (~absent).astype(np.float32)


def _window_schema(rules: WindowRules, fields: Mapping[str, Field]) -> Schema:
    made = []
    for name in rules.inputs:
        length = 0 if name in rules.static else rules.context + rules.horizon if name in rules.known else rules.context
        made.append(Field(name, Kind.SERIES, nullable=True, shape=(length,)) if length else fields[name])
    return Schema(tuple(made), rules.target)


def _named(arrays: Mapping[str, Array], role: Role) -> dict[str, np.ndarray]:
    return {input_name(role, name): array for name, array in arrays.items() if isinstance(array, np.ndarray)}


def _flat(batch: pa.RecordBatch, name: str, length: int) -> pa.Array:
    """Return the values of a column of lists, one list after the other; a missing list is a list of missing values."""
    column = plain(get_column(batch, name))
    if pa.types.is_null(column.type):
        return pa.nulls(batch.num_rows * length, pa.float64())
    if pa.types.is_fixed_size_list(column.type) or pa.types.is_large_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    if not pa.types.is_list(column.type):
        raise ColumnError(
            f"the column {name!r} holds {column.type}, but a window's column holds lists of {length} values",
            hint="give each row the lists of one window, or a table of single steps to `predict`",
        )
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), length))
    if len(wrong := np.flatnonzero(lengths != length)):
        raise RowError(
            wrong[0],
            f" has {lengths[wrong[0]]} values of {name!r}, but a window holds {length}",
            hint="give the latest values, oldest first; null where one is missing",
        )
    if not column.null_count:
        return column.flatten()
    absent = np.repeat(np.asarray(column.is_null().to_numpy(zero_copy_only=False)), length)
    places = np.cumsum(~absent) - 1
    return (
        column.flatten().take(pa.array(np.maximum(places, 0), mask=absent))
        if len(column.flatten())
        else pa.nulls(len(absent), column.type.value_type)
    )
