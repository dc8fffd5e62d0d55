"""`deepseek report`: a run as a page."""

from __future__ import annotations

from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, RunPath
from deepseek.cli.output import Output, as_table


def report_verb(
    run: RunPath,
    *,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="The HTML file; report.html in the run's folder where not given.")
    ] = None,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="The most rows of a split that are looked at.")] = 20_000,
    no_examples: Annotated[bool, typer.Option("--no-examples", help="Leave out the rows that the model gets wrong: raw data.")] = False,
    as_json: Json = False,
) -> Output:
    """Write a report of a finished run: one HTML file."""
    progress.quiet(as_json)
    value = deepseek.report(run, output, rows=rows, examples=not no_examples).to_json()
    lines = [("report", value["output"]), *(("missing", reason) for reason in value["missing"])]
    lines += [
        ("worse", f"{one['name']} ({one['rows']:,} rows): error {one['error']:.4g}, other rows {one['others']:.4g}")
        for one in value["slices"][:3]
    ]
    return Output(value, as_table(lines))
