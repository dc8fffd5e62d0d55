"""Forecasts step by step, beside those that need no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deepseek.reporting.charts import Series, line
from deepseek.reporting.html import Html
from deepseek.reporting.page import charts, paragraph, table

MODEL, REPEAT_LAST, SEASONAL = "model", "repeat last", "seasonal naive"


@dataclass(frozen=True)
class ForecastFacts:
    """The errors of a model and of naive forecasts at each step ahead, in standard deviations of the training period.

    Attributes:
        windows: How many windows were forecast.
        season: How many steps the seasonal naive forecast looks back.
        squared: The mean squared error at each step, by who forecasts: the model first.
        absolute: The mean absolute error likewise.
    """

    windows: int
    season: int
    squared: Mapping[str, Sequence[float]]
    absolute: Mapping[str, Sequence[float]]

    def mse(self, who: str) -> float:
        """Return the mean squared error over all steps."""
        return sum(self.squared[who]) / len(self.squared[who])

    def mae(self, who: str) -> float:
        """Return the mean absolute error over all steps."""
        return sum(self.absolute[who]) / len(self.absolute[who])


def forecast_parts(facts: ForecastFacts) -> list[Html]:
    """Return a table of errors over all steps, and a curve over the steps for each who forecasts."""
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
            caption="Over all steps ahead and target columns, in standard deviations of the training period",
        ),
        charts(*drawn),
        paragraph(
            f"{facts.windows:,} windows. {REPEAT_LAST}: the last value again; {SEASONAL}: the value {facts.season} steps before.",
            quiet=True,
        ),
    ]
