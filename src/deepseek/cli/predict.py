"""`deepseek predict`: a trained model's answers to rows."""

from __future__ import annotations

from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, RunPath
from deepseek.cli.output import Output, as_text


def predict_verb(
    run: RunPath,
    source: Annotated[str, typer.Argument(help="A table of rows.")],
    *,
    output: Annotated[str, typer.Option("--output", "-o", help="File for the answers: .csv or .parquet.")],
    as_json: Json = False,
) -> Output:
    """Write a model's answers to the rows of a table."""
    progress.quiet(as_json)
    value = deepseek.predict(run, source, output)
    return Output(value, as_text(value))
