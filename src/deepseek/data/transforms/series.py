"""Series of numbers: read and cut on the host, scaled inside the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Gt

from deepseek.data.columns import get_column
from deepseek.data.sources.base import ROOT_KEY
from deepseek.data.transforms.base import Array, InputSpec, Ragged, Transform
from deepseek.data.transforms.series_files import Series, read_rows
from deepseek.errors import DataError, InputError, RowError
from deepseek.fields import Field, Kind
from deepseek.statistics import Moments

if TYPE_CHECKING:
    from deepseek.data.transforms.series_steps import SeriesModule

FAR = 256.0
"""Values whose mean is more standard deviations than this from zero are shifted on the host, in float64."""
_LARGEST = float(np.finfo(np.float32).max)


class SeriesTransform(Transform):
    """Turns a column of series into one ragged float32 input: each row's steps, of one or several values each.

    A row is a list of numbers, a list of lists (one a step), an array, or the path of a `.npy` or `.csv` file with a line a step, relative
    to the folder that the Arrow field's metadata names under `deepseek.root`. All rows have as many values a step as most training rows
    have; rows may be of any length. Scaling happens in `module()`, which is exported with the model.

    Args:
        fields: The one column.
        name: The name of the input; the column's where not given.
        steps: The most steps of a row that are kept.
        keep: Which part of a longer one that is: its `start`, `middle` or `end`.
        scaling: `standard`: each value of a step to mean 0 and standard deviation 1 over all training steps; or `none`.
        clip: The bound on the absolute value after scaling, approached smoothly; nothing for none.
        missing: What a row without a series gets: `nothing`, which a network of several senses passes over, or `fail`: such rows are set
            aside in training and refused in production. Not given, it is `nothing` where there are other inputs, and `fail` where the
            series is all there is. One that is there and cannot be read is always a bad one.

    Raises:
        InputError: There is more than one column.
    """

    ragged = True

    def __init__(
        self,
        fields: Sequence[Field],
        name: str | None = None,
        /,
        *,
        steps: Annotated[int, Ge(1)] = 4096,
        keep: Literal["start", "middle", "end"] = "end",
        scaling: Literal["standard", "none"] = "standard",
        clip: Annotated[float, Gt(0)] | None = 10.0,
        missing: Literal["nothing", "fail"] = "nothing",
    ) -> None:
        if len(fields) != 1:
            raise InputError(
                f"a transform of series is given {len(fields)} columns", hint="each column of series has a transform of its own"
            )
        super().__init__(fields, name or fields[0].name)
        self.steps, self.keep, self.scaling, self.clip, self.missing = steps, keep, scaling, clip, missing
        self._column = self.fields[0].name
        self._moments: dict[int, Moments] = {}
        self._widths: dict[int, int] = {}
        self._rows = self._absent = self._cut = 0
        self._state: dict[str, Any] = {}

    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at the values of training rows; series that cannot be read are passed over here and named by `bad`."""
        self._rows += batch.num_rows
        for series in self._read(batch):
            self._absent += series is None
            if isinstance(series, np.ndarray):
                width = series.shape[1]
                self._widths[width] = self._widths.get(width, 0) + 1
                self._cut += len(series) > self.steps
                self._moments.setdefault(width, Moments(width)).update(self._kept(series))

    def finish(self) -> None:
        """Settle how many values a step has, and their mean and spread."""
        if not self._widths:
            raise DataError(f"no readable series was seen in the training rows of {self._column!r}", hint="are the paths right?")
        width = max(self._widths, key=lambda one: (self._widths[one], one))
        moments = self._moments[width]
        std = np.where(moments.std() > 0, moments.std(), 1.0)
        mean = moments.mean
        offset = np.where(np.abs(mean) > FAR * std, mean, 0.0)
        plain = self.scaling == "none"
        self._state = {
            "offset": (np.zeros(width) if plain else offset).tolist(),
            "mean": (np.zeros(width) if plain else mean - offset).tolist(),
            "std": (np.ones(width) if plain else std).tolist(),
        }
        self.warnings = tuple(self._warnings(sum(self._widths.values())))
        self._moments, self._widths = {}, {}
        self._rows = self._absent = self._cut = 0

    def _warnings(self, series: int) -> Iterator[str]:
        if self._cut:
            yield (
                f"{max(self._cut / series, 0.001):.1%} of the training series of {self._column!r} have more than {self.steps:,} steps and "
                f"are cut (keep: {self.keep}); raise steps of the transform series to see more"
            )
        if self._absent and self.missing == "nothing":
            yield f"{self._absent / self._rows:.1%} of the training rows have no series in {self._column!r}"

    @property
    def width(self) -> int:
        """How many values a step has, as settled on the training rows."""
        if not self._state:
            raise InputError("the transform of series is not fitted", hint="call observe and finish, or load_json, first")
        return len(self._state["mean"])

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The one input, ragged."""
        width = self.width
        columns = (self._column,) if width == 1 else tuple(f"{self._column}_{place}" for place in range(width))
        return (InputSpec(str(self.name), Kind.SERIES, columns, (width,), "float32", ragged=True),)

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return the steps, float32, NaN where a value is missing; a missing series is one step without any value."""
        width, offset = self.width, np.array(self._state["offset"])
        rows = [self._row(series, number, width) for number, series in enumerate(self._read(batch))]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(row) for row in rows], dtype=np.int64)])
        values = (np.concatenate(rows) if rows else np.empty((0, width))) - offset
        return {str(self.name): Ragged(np.where(np.abs(values) <= _LARGEST, values, np.nan).astype(np.float32), offsets)}

    def _row(self, series: Series | str | None, number: int, width: int) -> Series:
        if series is None and self.missing == "nothing":
            return np.full((1, width), np.nan)
        reason = self._fault(series)
        if reason is not None or not isinstance(series, np.ndarray):
            raise RowError(number, f": {reason}", hint="mend or remove it; preparing data sets such rows aside")
        return self._kept(series)

    def _fault(self, series: Series | str | None) -> str | None:
        """Return what is wrong with a series, if anything is."""
        if isinstance(series, str):
            return series
        if series is None:
            return f"the series in column {self._column!r} is missing" if self.missing == "fail" else None
        if series.shape[1] != self.width:
            return f"the series in column {self._column!r} has {series.shape[1]} values a step, and those of training have {self.width}"
        return None

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for rows whose series cannot be read, has other values a step, or is missing where it must not be."""
        return np.array([self._fault(series) is not None for series in self._read(batch)], dtype=bool)

    def module(self) -> SeriesModule:
        """Return what scales: steps `[b, l, k]` and their mask to scaled steps and their mask."""
        from deepseek.data.transforms.series_steps import SeriesModule

        self.width  # noqa: B018  raises where nothing is fitted
        return SeriesModule(np.array(self._state["mean"]), np.array(self._state["std"]), clip=self.clip)

    def to_json(self) -> dict[str, Any]:
        """Return what the values are shifted and scaled by."""
        self.width  # noqa: B018  raises where nothing is fitted
        return dict(self._state)

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._state = {key: [float(value) for value in state[key]] for key in ("offset", "mean", "std")}
        return self

    def _read(self, batch: pa.RecordBatch) -> Iterator[Series | str | None]:
        root = Path(((batch.schema.field(self._column).metadata or {}).get(ROOT_KEY, b"")).decode())
        return read_rows(get_column(batch, self._column), self._column, root)

    def _kept(self, series: Series) -> Series:
        spare = max(0, len(series) - self.steps)
        start = {"start": 0, "middle": spare // 2, "end": spare}[self.keep]
        return series[start : start + self.steps]
