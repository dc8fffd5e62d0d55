"""Metrics of forecasts: in standard deviations, of quantiles, and beside the naive forecast.

Legend of shapes: `b` windows · `h` steps ahead · `c` target columns · `q` quantiles.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Gt, Lt, MinLen
from torch import Tensor

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.data.windows.rules import NAIVE_ERROR
from deepseek.errors import InputError
from deepseek.tasks.metrics import MeanAbsoluteError, Metric, RootMeanSquaredError

Level = Annotated[float, Gt(0.0), Lt(1.0)]


class ScaledSquaredError(RootMeanSquaredError):
    """The mean squared error in standard deviations of the training period, over all steps and target columns: the literature's MSE."""

    higher_is_better = False

    def columns(self) -> Tensor:
        """Return the errors."""
        return (self.state["error"] / self.state["weight"]).cpu()


class ScaledAbsoluteError(MeanAbsoluteError):
    """The mean absolute error in standard deviations of the training period, over all steps and target columns: the literature's MAE."""

    def columns(self) -> Tensor:
        """Return the errors."""
        return (self.state["error"] / self.state["weight"]).cpu()


class MeanAbsoluteScaledError(Metric):
    """The mean absolute error as a multiple of the seasonal naive forecast's in training, series by series; below 1 beats that one.

    Source: Hyndman and Koehler, "Another look at measures of forecast accuracy", 2006, https://doi.org/10.1016/j.ijforecast.2006.03.001.
    Windows of a series whose naive error is not known, or 0, are left out.
    """

    higher_is_better = False
    kinds = ("values",)

    def __init__(self, target: TargetSpec, /) -> None:
        super().__init__(target)
        self._begin(total=(), weight=())
        self._naive: Tensor | None = None

    @torch.no_grad()
    def update(self, decoded: Mapping[str, Tensor], batch: Batch) -> None:
        """Add a batch; its targets hold each window's naive error."""
        self._naive = batch.targets.get(NAIVE_ERROR)
        super().update(decoded, batch)

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add windows; nothing where no naive error is known."""
        if self._naive is None:
            return
        predicted = decoded["standardized"].double()
        truth = target.double().reshape(predicted.shape)
        naive = self._naive.double()[:, None, :].expand_as(truth)
        known = ~truth.isnan() & (naive > 0)
        scaled = torch.where(known, (predicted - torch.where(known, truth, 0.0)).abs() / torch.where(known, naive, 1.0), 0.0)
        each = weight[:, None, None] * known
        self.state["total"] += (scaled * each).sum()
        self.state["weight"] += each.sum()

    def compute(self) -> float:
        """Return the mean multiple; NaN where nothing could be compared."""
        return float(self.state["total"] / self.state["weight"]) if self.state["weight"] != 0 else math.nan


class QuantileMetric(Metric):
    """A mean over all known values of a number made of their quantiles."""

    higher_is_better = False
    kinds = ("values",)

    def __init__(self, target: TargetSpec, /, *, levels: Annotated[list[Level], MinLen(1)] = [0.1, 0.5, 0.9]) -> None:  # noqa: B006 - read, never written to
        super().__init__(target)
        self.levels = tuple(sorted(levels))
        self._places: tuple[int, ...] | None = None
        self._begin(total=(), weight=())

    def look_among(self, answered: Sequence[float]) -> None:
        """Say which levels the quantiles in answers have: those of this metric's are looked up among them.

        Args:
            answered: The levels, in the answers' order.

        Raises:
            InputError: A level of this metric is none of them.
        """
        if lacking := [level for level in self.levels if level not in answered]:
            has = f"the loss answers {', '.join(f'{level:g}' for level in answered)}" if answered else "the loss answers no quantiles"
            raise InputError(
                f"a metric of quantiles is asked for the level {lacking[0]:g}, and {has}",
                hint="name the level under task.loss: {type: quantile, levels: […]}, or leave the levels of the metric out",
            )
        self._places = tuple(list(answered).index(level) for level in self.levels)

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add windows; nothing where there are no quantiles."""
        if "quantiles" not in decoded:
            return
        quantiles = decoded["quantiles"].double()
        truth = target.double().reshape(quantiles.shape[:-1])
        if self._places is not None:
            quantiles = quantiles[..., list(self._places)]
        known = ~truth.isnan()
        each = weight[:, None, None] * known
        self.state["total"] += (self.values(quantiles, torch.where(known, truth, 0.0)) * each).sum()
        self.state["weight"] += each.sum()

    @abstractmethod
    def values(self, quantiles: Tensor, truth: Tensor) -> Tensor:
        """Return one number for each value, `[b, h, c]`, of quantiles `[b, h, c, q]`."""

    def compute(self) -> float:
        """Return the mean; NaN where there are no quantiles."""
        return float(self.state["total"] / self.state["weight"]) if self.state["weight"] != 0 else math.nan


class Pinball(QuantileMetric):
    """The mean pinball loss over the quantiles, in standard deviations (Koenker and Bassett 1978, https://doi.org/10.2307/1913643).

    Args:
        levels: The quantiles' levels, each one of the loss's; all of these where not given.
    """

    def values(self, quantiles: Tensor, truth: Tensor) -> Tensor:
        """Return each value's mean over the levels."""
        levels = torch.tensor(self.levels, dtype=truth.dtype, device=truth.device)
        above = truth.unsqueeze(-1) - quantiles
        return torch.maximum(levels * above, (levels - 1) * above).mean(dim=-1)


class Coverage(QuantileMetric):
    """The share of values between the lowest and the highest quantile: it should be the difference of their levels.

    Args:
        levels: The quantiles' levels, each one of the loss's; all of these where not given.
    """

    higher_is_better = True

    def values(self, quantiles: Tensor, truth: Tensor) -> Tensor:
        """Return whether each value lies inside."""
        return ((truth >= quantiles[..., 0]) & (truth <= quantiles[..., -1])).to(truth.dtype)
