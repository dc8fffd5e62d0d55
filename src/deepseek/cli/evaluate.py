"""`deepseek evaluate`: a trained model's metrics on other rows."""

from __future__ import annotations

from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Plugins, Query, RunPath, Table, source_given
from deepseek.cli.output import Output, as_text


def evaluate_verb(
    run: RunPath,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A table with the target, or a database's URL.")],
    *,
    table: Table = None,
    query: Query = None,
    plugins: Plugins = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Compute a model's metrics on a table."""
    progress.quiet(as_json)
    value = deepseek.evaluate(run, source_given(source, table=table, query=query), plugins=plugins)
    return Output(value, as_text(value))
