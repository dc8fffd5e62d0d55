"""`deepseek backtest`: a forecast's recipe, trained at several moments of the past."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Out, Overrides, RecipePath
from deepseek.cli.output import Output, as_table


def backtest_verb(
    recipe: RecipePath,
    *,
    origins: Annotated[int, typer.Option("--origins", metavar="N", help="From how many moments forecasts are made.")] = 4,
    training: Annotated[
        str, typer.Option("--training", metavar="HOW", help="expanding, or sliding: as long at each origin.")
    ] = "expanding",
    out: Out = "runs",
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Train a forecast at several moments of the past, and measure each on what came next."""
    progress.quiet(as_json)
    value = deepseek.backtest(recipe, origins=origins, training=training, overrides=overrides, out=out).to_json()  # type: ignore[arg-type]
    return Output(value, _text(value))


def _text(value: Mapping[str, Any]) -> str:
    who = list(value["whole"]["mse"])
    heads = ("from", "windows", *(f"mse {one}" for one in who), *(f"mae {one}" for one in who))
    rows = [(one["test_from"], one["facts"]) for one in value["origins"]] + [("all origins", value["whole"])]
    lines = [
        (begin, f"{facts['windows']:,}", *(f"{facts['mse'][one]:.4f}" for one in who), *(f"{facts['mae'][one]:.4f}" for one in who))
        for begin, facts in rows
    ]
    return "\n".join([as_table([heads, *lines]), "", f"page  {value['page']}"])
