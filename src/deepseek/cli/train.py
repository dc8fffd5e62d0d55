"""`deepseek train`: from a table to a trained model, without a recipe."""

from __future__ import annotations

from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Out, Overrides
from deepseek.cli.output import Output, as_text


def train_verb(
    source: Annotated[str, typer.Argument(help="A table: CSV, JSON, Parquet, Arrow, npz or a folder of images by class.")],
    *,
    target: Annotated[str | None, typer.Option("--target", "-t", help="The column to predict; several with commas.")] = None,
    test: Annotated[str | None, typer.Option(help="A table of test rows.")] = None,
    out: Out = "runs",
    time_limit: Annotated[str | None, typer.Option(help="Time after which training ends: 90s, 5m, 2h.")] = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Train a model on a table."""
    progress.quiet(as_json)
    targets = [column.strip() for column in target.split(",")] if target and "," in target else target
    result = deepseek.train(source, target=targets, test=test, out=out, time_limit=time_limit, overrides=overrides, progress=not as_json)
    value = result.to_json()
    return Output(value, as_text(value))
