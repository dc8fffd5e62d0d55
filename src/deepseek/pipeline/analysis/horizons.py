"""Forecasts of a split's windows, step by step, beside the naive ones.

Legend of shapes: `b` windows · `l` steps of the past · `h` steps ahead · `c` target columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from deepseek.data.batch import Batch
from deepseek.data.windows.dataset import WindowDataset
from deepseek.data.windows.rules import HISTORY
from deepseek.reporting.forecast import MODEL, REPEAT_LAST, SEASONAL, ForecastFacts
from deepseek.tasks.base import TARGET
from deepseek.tasks.model import TaskModel

BATCH_WINDOWS = 256

Forecast = Callable[[Batch], Tensor]
"""Returns `[b, h, c]` in standard deviations from the training mean."""


def horizon_facts(model: TaskModel, data: WindowDataset, *, season: int, unit: Sequence[float] | None = None) -> ForecastFacts:
    """Return a model's errors at each step ahead over all windows, beside those of the naive forecasts.

    Args:
        model: The trained model.
        data: The windows.
        season: How many steps a season has; where it is longer than the context, there is no seasonal forecast.
        unit: What each target column's errors are counted in, in the data's own units; the standard deviations that the model was trained
            with where not given.
    """
    horizon = data.inputs[HISTORY].horizon
    model.eval()
    forecasts: dict[str, Forecast] = {
        MODEL: lambda batch: model.predict(batch.inputs)["standardized"],
        REPEAT_LAST: lambda batch: naive_forecast(batch.inputs[HISTORY], horizon, season=1),
    }
    if 1 < season <= data.inputs[HISTORY].shape[0]:
        forecasts[SEASONAL] = lambda batch: naive_forecast(batch.inputs[HISTORY], horizon, season=season)
    spread = torch.tensor(model.task.target.std, dtype=torch.float64)
    factor = torch.ones_like(spread) if unit is None else spread / torch.tensor(unit, dtype=torch.float64)
    sums = {who: _Sums(horizon, factor) for who in forecasts}
    with torch.inference_mode():
        for start in range(0, len(data), BATCH_WINDOWS):
            batch = data.take(np.arange(start, min(start + BATCH_WINDOWS, len(data))))
            for who, forecast in forecasts.items():
                sums[who].add(forecast(batch), batch.targets[TARGET])
    return ForecastFacts(
        len(data),
        season,
        [int(count) for count in sums[MODEL].known.tolist()],
        {who: one.mean(one.squared) for who, one in sums.items()},
        {who: one.mean(one.absolute) for who, one in sums.items()},
    )


def naive_forecast(history: Tensor, horizon: int, *, season: int) -> Tensor:
    """Return the last season of `[b, l, c]` again and again, `[b, h, c]`; a season of one step repeats the last value.

    Args:
        history: The past.
        horizon: `h`.
        season: At most `l`.

    Example:
        >>> naive_forecast(torch.tensor([[[1.0], [2.0], [3.0]]]), 3, season=2).ravel()
        tensor([2., 3., 2.])
    """
    places = history.shape[1] - season + torch.arange(horizon) % season
    return history[:, places]


class _Sums:
    """Sums of errors at each step, in float64, each column's multiplied by a factor; what is missing counts nothing."""

    def __init__(self, horizon: int, factor: Tensor) -> None:
        self._factor = factor
        self.squared, self.absolute, self.known = (torch.zeros(horizon, dtype=torch.float64) for _ in range(3))

    def add(self, forecast: Tensor, truth: Tensor) -> None:
        known = ~truth.isnan()
        apart = torch.where(known, forecast.double() - truth.double(), 0.0) * self._factor
        self.squared += apart.square().sum(dim=(0, 2))
        self.absolute += apart.abs().sum(dim=(0, 2))
        self.known += known.sum(dim=(0, 2))

    def mean(self, total: Tensor) -> list[float]:
        found: list[float] = (total / self.known).tolist()
        return found
