"""`deepseek example`: data to try things with."""

from __future__ import annotations

from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json
from deepseek.cli.output import Output, as_table


def example_verb(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Which example; without it, they are listed.")] = None,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where the files go.")] = ".",
    *,
    rows: Annotated[int | None, typer.Option(help="How many rows; each example has its own default.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives other rows of the same kind.")] = 0,
    as_json: Json = False,
) -> Output:
    """Write generated example data."""
    from deepseek.data.examples import EXAMPLES  # Arrow, which `--help` need not wait for

    progress.quiet(as_json)
    if name is None:
        listed = {name: what for name, (_, what) in EXAMPLES.items()}
        return Output(listed, as_table(list(listed.items())))
    path = str(deepseek.example(name, folder, rows=rows, seed=seed))
    return Output({"path": path}, path)
