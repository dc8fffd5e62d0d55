"""Forecasts step by step, beside those that need no model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deepseek.reporting.charts import Series, line
from deepseek.reporting.html import Html
from deepseek.reporting.page import charts, paragraph, table

MODEL, REPEAT_LAST, SEASONAL = "model", "repeat last", "seasonal naive"


@dataclass(frozen=True)
class ForecastFacts:
    """The errors of a model and of naive forecasts at each step ahead, in standard deviations of a training period.

    Attributes:
        windows: How many windows were forecast.
        season: How many steps the seasonal naive forecast looks back.
        known: How many values are known at each step, over all target columns: what the means there are of.
        squared: The mean squared error at each step, by who forecasts: the model first.
        absolute: The mean absolute error likewise.
    """

    windows: int
    season: int
    known: Sequence[int]
    squared: Mapping[str, Sequence[float]]
    absolute: Mapping[str, Sequence[float]]

    def mse(self, who: str) -> float:
        """Return the mean squared error over all known values; NaN where none is."""
        return mean_over(self.squared[who], self.known)

    def mae(self, who: str) -> float:
        """Return the mean absolute error over all known values; NaN where none is."""
        return mean_over(self.absolute[who], self.known)


def mean_over(means: Sequence[float], counts: Sequence[int]) -> float:
    """Return the mean of everything that these are means of; NaN where there is nothing.

    Args:
        means: A mean each; one of nothing says nothing.
        counts: Of how many values each is.

    Example:
        >>> mean_over([1.0, 4.0, float("nan")], [2, 1, 0])
        2.0
    """
    total = sum(counts)
    return sum(mean * count for mean, count in zip(means, counts, strict=True) if count) / total if total else math.nan


def forecast_parts(facts: ForecastFacts, *, unit: str = "standard deviations of the training period") -> list[Html]:
    """Return a table of errors over all steps, and a curve over the steps for each who forecasts.

    Args:
        facts: The errors.
        unit: What they are counted in.
    """
    whole = [[who, facts.mse(who), facts.mae(who)] for who in facts.squared]
    named = {"squared error": facts.squared, "absolute error": facts.absolute}
    drawn = [
        line(
            [Series(who, range(1, len(values) + 1), list(values)) for who, values in errors.items()],
            title=f"Mean {what} by step ahead",
            x_label="step ahead",
            y_label=what,
        )
        for what, errors in named.items()
    ]
    return [
        table(
            ["forecast", "MSE", "MAE"],
            whole,
            caption=f"Over all steps ahead and target columns, in {unit}",
        ),
        charts(*drawn),
        paragraph(
            f"{facts.windows:,} windows. {REPEAT_LAST}: the last value again; {SEASONAL}: the value {facts.season} steps before.",
            quiet=True,
        ),
    ]
