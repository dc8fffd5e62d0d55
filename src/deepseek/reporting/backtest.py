"""The page of a back-test: origin by origin, and step by step."""

from __future__ import annotations

from collections.abc import Sequence

from deepseek.reporting.charts import Series, line
from deepseek.reporting.forecast import MODEL, ForecastFacts, forecast_parts
from deepseek.reporting.html import Html
from deepseek.reporting.page import Page, Tile, table, tiles

UNIT = "standard deviations of the recipe's own training period"
"""Each origin standardises by a training period of its own: told in those, errors of different origins would be of different units."""


def render(name: str, origins: Sequence[tuple[str, str, ForecastFacts]], *, training: str, whole: ForecastFacts) -> str:
    """Return a back-test's page.

    Args:
        name: The recipe's name.
        origins: Of each the first moment that was forecast, the first behind those, and the errors.
        training: `expanding` or `sliding`.
        whole: The errors over all origins.
    """
    told = [("origins", len(origins)), ("training", training), ("windows", whole.windows)]
    page = Page(f"Back-test of {name}", subtitle="trained as if it were earlier, measured on what came next", facts=told)
    page.section(
        "Result", tiles([Tile("MSE", whole.mse(MODEL), "standard deviations"), Tile("MAE", whole.mae(MODEL), "standard deviations")])
    )
    page.section("Origin by origin", _table(origins), _course(origins))
    page.section("Step by step", *forecast_parts(whole, unit=UNIT), note="Over all origins.")
    return page.render()


def _table(origins: Sequence[tuple[str, str, ForecastFacts]]) -> Html:
    who = list(origins[0][2].squared)
    rows = [
        [begin, end, facts.windows, *(facts.mse(one) for one in who), *(facts.mae(one) for one in who)] for begin, end, facts in origins
    ]
    heads = ["from", "until", "windows", *(f"MSE {one}" for one in who), *(f"MAE {one}" for one in who)]
    return table(heads, rows, caption=f"Errors in {UNIT}")


def _course(origins: Sequence[tuple[str, str, ForecastFacts]]) -> Html:
    places = range(1, len(origins) + 1)
    who = origins[0][2].squared
    series = [Series(one, places, [facts.mse(one) for _, _, facts in origins]) for one in who]
    return line(series, title="Mean squared error by origin", x_label="origin", y_label="squared error")
