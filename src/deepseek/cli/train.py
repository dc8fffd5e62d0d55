"""`deepseek train`: from a table to a trained model, without a recipe."""

from __future__ import annotations

from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Out, Overrides
from deepseek.cli.output import Output, result_text


def train_verb(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A table: CSV, JSON, Parquet, Arrow, npz or a folder of images by class.")
    ],
    *,
    target: Annotated[list[str], typer.Option("--target", "-t", metavar="COLUMN", help="The column to predict; may be repeated.")] = [],  # noqa: B006
    test: Annotated[str | None, typer.Option(metavar="SOURCE", help="A table of test rows.")] = None,
    out: Out = "runs",
    time_limit: Annotated[str | None, typer.Option(metavar="TIME", help="Time after which training ends: 90s, 5m, 2h.")] = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Train a model on a table."""
    from deepseek.pipeline.recipes import recipe_of  # the recipe's types and Arrow, which `--help` need not wait for

    progress.quiet(as_json)
    recipe = recipe_of(source, target=target or None, test=test, out=out, time_limit=time_limit, overrides=overrides)
    value = deepseek.run(recipe, out=out).to_json()  # imports torch, which takes seconds: the recipe is checked by then
    return Output(value, result_text(value))
