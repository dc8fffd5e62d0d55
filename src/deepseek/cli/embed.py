"""`deepseek embed`: rows as vectors."""

from __future__ import annotations

from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Plugins, Query, Table, source_given
from deepseek.cli.output import Output, as_text


def embed_verb(  # noqa: PLR0913 - each is an option
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, a bundle, or the folder or Hub name of a checkpoint of texts.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A table of rows, or a database's URL; for images and texts also files.")],
    *,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="File for the vectors: .parquet, .arrow or .jsonl.")],
    column: Annotated[str, typer.Option(help="Of a checkpoint: the column of texts.")] = "text",
    pool: Annotated[str, typer.Option(help="Of a checkpoint: how tokens become one vector: mean, first or max.")] = "mean",
    normalized: Annotated[bool, typer.Option("--normalized", help="Bring every vector to length 1.")] = False,
    bundle: Annotated[str | None, typer.Option(metavar="FOLDER", help="Also keep the bundle that answers so, to export and serve.")] = None,
    table: Table = None,
    query: Query = None,
    plugins: Plugins = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Write what a trained or pre-trained network makes of every row, as a vector."""
    progress.quiet(as_json)
    value = deepseek.embed(
        run,
        source_given(source, table=table, query=query),
        output,
        column=column,
        pool=pool,  # type: ignore[arg-type]
        normalized=normalized,
        bundle=bundle,
        plugins=plugins,
    )
    return Output(value, as_text(value))
