"""`deepseek attention`: where the senses of a trained network look."""

from __future__ import annotations

from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, RunPath
from deepseek.cli.output import Output, as_table, page_line


def attention_verb(
    run: RunPath,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A table of rows; the first of them are looked at.")],
    *,
    rows: Annotated[int, typer.Option("--rows", metavar="N", help="How many rows, 1 to 100.")] = 8,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="An HTML file for the same as pictures.")] = None,
    as_json: Json = False,
) -> Output:
    """Show where the senses of a network with cross_attention look, on real rows."""
    progress.quiet(as_json)
    seen = deepseek.attention(run, source, rows=rows, output=output)
    shares = [["" if one is None else f"{share:.3f}" for share in one or [0.0] * (len(seen["senses"]) + 1)] for one in seen["between"]]
    lines = [("looks", *seen["senses"], "nowhere"), *((name, *line) for name, line in zip(seen["senses"], shares, strict=True))]
    return Output(seen, "\n".join([as_table(lines), *page_line(output)]))
