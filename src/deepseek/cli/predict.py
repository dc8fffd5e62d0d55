"""`deepseek predict`: a trained model's answers to rows."""

from __future__ import annotations

from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Plugins, Query, RunPath, Table, source_given
from deepseek.cli.output import Output, as_text


def predict_verb(  # noqa: PLR0913 - the verb's options
    run: RunPath,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A table of rows, or a database's URL; for images and texts also files.")],
    *,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File for the answers: .csv, .parquet, .arrow, .feather or .jsonl; for masks also a folder.",
        ),
    ],
    tiles: Annotated[
        int | None,
        typer.Option("--tiles", metavar="PIXELS", min=1, help="Cut large pictures into overlapping tiles of this size (detectors)."),
    ] = None,
    overlap: Annotated[
        float, typer.Option("--overlap", metavar="PART", min=0.0, max=0.9, help="How much of a tile the next one shows again.")
    ] = 0.2,
    table: Table = None,
    query: Query = None,
    plugins: Plugins = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Write a model's answers to the rows of a table."""
    progress.quiet(as_json)
    cut = None if tiles is None else {"size": tiles, "overlap": overlap}
    value = deepseek.predict(run, source_given(source, table=table, query=query), output, tiles=cut, plugins=plugins)
    return Output(value, as_text(value))
