"""`deepseek train`: from a table to a trained model, without a recipe."""

from __future__ import annotations

from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Out, Overrides, Query, Table, source_given
from deepseek.cli.output import Output, result_text


def train_verb(  # noqa: PLR0913 (what is said on the command line)
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A table: CSV, JSON, Parquet, Arrow, npz, a folder of images by class, or a database's URL."),
    ],
    *,
    target: Annotated[list[str], typer.Option("--target", "-t", metavar="COLUMN", help="The column to predict; may be repeated.")] = [],  # noqa: B006
    table: Table = None,
    query: Query = None,
    test: Annotated[str | None, typer.Option(metavar="SOURCE", help="A table of test rows.")] = None,
    out: Out = "runs",
    time_limit: Annotated[str | None, typer.Option(metavar="TIME", help="Time after which training ends: 90s, 5m, 2h.")] = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Train a model on a table."""
    from deepseek.pipeline.recipes import recipe_of  # the recipe's types and Arrow, which `--help` need not wait for

    progress.quiet(as_json)
    given = source_given(source, table=table, query=query)
    recipe = recipe_of(given, target=target or None, test=test, out=out, time_limit=time_limit, overrides=overrides)
    value = deepseek.run(recipe, out=out).to_json()  # imports torch, which takes seconds: the recipe is checked by then
    return Output(value, result_text(value))
