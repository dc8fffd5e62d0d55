"""Numbers: cast on the host, then filled, scaled and clipped inside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

import numpy as np
from annotated_types import Ge, Gt, Le

from deepseek.data.columns import infinite, stack
from deepseek.data.transforms.base import Array, InputSpec, Transform
from deepseek.data.transforms.sample import RowSample, quantiles_of
from deepseek.errors import DataError, InputError
from deepseek.fields import Field, Kind
from deepseek.statistics import Moments

if TYPE_CHECKING:
    import pyarrow as pa

    from deepseek.data.transforms.modules import NumberModule

Scaling = Literal["standard", "min_max", "robust", "quantile", "none"]

KNOTS = 256
FAR = 256.0
"""A column whose median is more interquartile ranges (or standard deviations, where these are less) than this from zero is shifted on the
host, in float64: float32 would leave too few digits of what differs, and one wild value makes a standard deviation as large as the median.
"""


class NumberTransform(Transform):
    """Turns all numeric columns into one float32 input.

    The host only casts; imputation by the training median, scaling, clipping and the indicators of missing values happen in `module()`,
    which is exported with the model, so that no serving stack can scale differently. Quantile scaling follows the rank-to-normal
    transformation that Gorishniy et al. (2021, https://arxiv.org/abs/2106.11959) use for tables.

    Args:
        fields: The numeric columns.
        name: The name of the input.
        scaling: `standard` (mean 0, standard deviation 1), `min_max` (0 to 1), `robust` (median 0, interquartile range 1), `quantile`
            (ranks to a normal distribution) or `none`.
        indicator: Whether a column of 0 and 1 says where a number was missing; `auto` adds it for columns that lacked numbers in training.
        clip: The bound on the absolute value after scaling, or nothing. It is approached smoothly, `x / sqrt(1 + (x / clip)²)`, so that
            outliers keep their order (Holzmüller, Grinsztajn and Steinwart, 2024, https://arxiv.org/abs/2407.04491).
        bins: At how many steps of probability the training rows' quantiles are kept, for embeddings that choose their bins among them.
        distinct: Of a column with at most so many different values (and at most one for twenty rows) the values themselves are kept
            instead: quantiles would miss rare ones, and what is rare may tell most.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        name: str | None = None,
        /,
        *,
        scaling: Scaling = "robust",
        indicator: bool | Literal["auto"] = "auto",
        clip: Annotated[float, Gt(0)] | None = 3.0,
        bins: Annotated[int, Ge(1), Le(1024)] = 256,
        distinct: Annotated[int, Ge(0), Le(1024)] = 128,
    ) -> None:
        super().__init__(fields, name or "numbers")
        if scaling not in get_args(Scaling):
            raise InputError(f"scaling is {scaling!r}", hint=f"allowed: {', '.join(get_args(Scaling))}")
        self.scaling, self.indicator, self.clip, self.bins, self.distinct = scaling, indicator, clip, bins, distinct
        self._columns = [field.name for field in self.fields]
        self._rows = 0
        self._infinite = np.zeros(len(self._columns), dtype=np.int64)
        self._moments = Moments(len(self._columns))
        self._sample: RowSample | None = RowSample(len(self._columns))
        self._state: dict[str, Any] = {}
        self._offset = np.zeros(len(self._columns))
        self._shifted = False
        self._spec: InputSpec | None = None

    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at a batch of training rows."""
        if self._sample is None:
            self._rows, self._moments, self._sample = 0, Moments(len(self._columns)), RowSample(len(self._columns))
            self._infinite = np.zeros(len(self._columns), dtype=np.int64)
        values = stack(batch, self._columns)
        self._infinite += infinite(batch, self._columns, values)
        self._rows += len(values)
        self._moments.update(values)
        self._sample.add(values)

    def finish(self) -> None:
        """Compute the statistics."""
        if self._sample is None or not self._rows:
            raise DataError(f"no training row was seen for the numbers {', '.join(self._columns)}", hint="is the training split empty?")
        self.warnings = tuple(
            f"column {name!r}: {count:,} of {self._rows:,} training rows are infinite or beyond the range of float32 and count as missing"
            for name, count in zip(self._columns, self._infinite.tolist(), strict=True)
            if count
        )
        sample, moments = self._sample.values(), self._moments
        self._sample = None
        low, median, high = quantiles_of(sample, np.array([0.25, 0.5, 0.75]))
        near = np.where(high > low, np.minimum(moments.std(), high - low), moments.std()) if self.scaling != "none" else moments.std()
        offset = np.where(np.abs(median) > FAR * np.where(near > 0, near, np.abs(median)), median, 0.0)
        center, scale = self._scales(sample, low=low, median=median, high=high)
        missing = moments.count < self._rows
        chosen = np.ones_like(missing) if self.indicator is True else missing if self.indicator == "auto" else np.zeros_like(missing)
        knots, scores = _knots(sample - offset) if self.scaling == "quantile" else ([], [])
        self._take_up(
            {
                "offset": offset.tolist(),
                "fill": (median - offset).tolist(),
                "center": (center - offset).tolist() if self.scaling != "none" else center.tolist(),
                "scale": scale.tolist(),
                "indicators": np.flatnonzero(chosen).tolist(),
                "knots": knots,
                "scores": scores,
            }
        )
        self._spec = self._describe(self._landmarks(sample - offset))

    def _scales(self, sample: np.ndarray, *, low: np.ndarray, median: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        std = np.where(self._moments.std() > 0, self._moments.std(), 1.0)
        if self.scaling == "standard":
            return self._moments.mean, std
        if self.scaling == "robust":
            least, most = quantiles_of(sample, np.array([0.0, 1.0]))
            spread = np.where(high > low, high - low, (most - least) / 2)
            return median, np.where(spread > 0, spread, 1.0)
        if self.scaling == "min_max":
            least, most = quantiles_of(sample, np.array([0.0, 1.0]))
            return least, np.where(most > least, most - least, 1.0)
        return np.zeros_like(std), np.ones_like(std)

    def _landmarks(self, sample: np.ndarray) -> np.ndarray:
        """Return each column's quantiles, or its values where they are few, the last repeated: float64 `[bins + 1, columns]`."""
        landmarks = quantiles_of(sample, np.linspace(0, 1, self.bins + 1))
        for column, values in enumerate(np.unique(known[~np.isnan(known)]) for known in sample.T):
            if 0 < len(values) <= min(self.distinct, self.bins + 1, self._rows / 20):
                landmarks[:, column] = np.pad(values, (0, self.bins + 1 - len(values)), mode="edge")
        return landmarks

    def _take_up(self, state: Mapping[str, Any]) -> None:
        self._state = dict(state)
        self._offset = np.array(state["offset"], dtype=np.float64)
        self._shifted = bool(self._offset.any())

    def _describe(self, quantiles: np.ndarray) -> InputSpec:
        import torch

        indicators = self._state["indicators"]
        with torch.no_grad():
            scaled = self.module()(torch.from_numpy(quantiles.astype(np.float32)))[:, : len(self._columns)].numpy().T
        steps = np.tile(np.linspace(0, 1, self.bins + 1, dtype=np.float32), (len(indicators), 1))
        names = (*self._columns, *(f"{self._columns[index]}_missing" for index in indicators))
        shape = (len(self._columns),)
        return InputSpec(
            str(self.name), Kind.NUMBER, names, shape, "float32", quantiles=np.ascontiguousarray(np.concatenate([scaled, steps]))
        )

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The one input of all numbers."""
        if self._spec is None:
            raise InputError("the transform of numbers is not fitted", hint="call observe and finish, or load_json, first")
        return (self._spec,)

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return float32 `[rows, columns]`, NaN where a number is missing."""
        values = stack(batch, self._columns)
        if self._shifted:
            values -= self._offset
        return {str(self.name): values.astype(np.float32)}

    def module(self) -> NumberModule:
        """Return the arithmetic: `[b, columns]` to `[b, columns + indicators]`."""
        from deepseek.data.transforms.modules import NumberModule

        state = self._state
        knots = np.array([[np.inf if knot is None else knot for knot in row] for row in state["knots"]])
        quantiles = (knots, np.array(state["scores"])) if self.scaling == "quantile" else None
        return NumberModule(
            state["fill"], state["center"], scale=state["scale"], indicators=state["indicators"], clip=self.clip, quantiles=quantiles
        )

    def to_json(self) -> dict[str, Any]:
        """Return the statistics and the description of the input."""
        return {**self._state, "spec": self.inputs[0].to_json()}

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._take_up({key: value for key, value in state.items() if key != "spec"})
        self._spec = InputSpec.from_json(state["spec"])
        return self


def _knots(sample: np.ndarray) -> tuple[list[list[float | None]], list[list[float]]]:
    """Return each column's different quantiles, padded with nothing, and their normal scores; tied quantiles share their mean rank."""
    levels = np.linspace(0, 1, KNOTS)
    bound = 0.5 / KNOTS
    normal = NormalDist()
    knots: list[list[float | None]] = []
    scores: list[list[float]] = []
    for column in quantiles_of(sample, levels).T.astype(np.float32):
        values, groups = np.unique(column, return_inverse=True)
        ranks = np.bincount(groups, weights=levels) / np.bincount(groups)
        padding = KNOTS - len(values)
        knots.append([*map(float, values), *[None] * padding])
        scores.append([*(normal.inv_cdf(min(max(rank, bound), 1 - bound)) for rank in ranks), *[0.0] * padding])
    return knots, scores
