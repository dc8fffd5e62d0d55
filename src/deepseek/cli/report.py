"""`deepseek report`: a run as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, RunPath
from deepseek.cli.output import Output, as_table
from deepseek.errors import InputError


def report_verb(
    run: RunPath,
    *,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="The HTML file; report.html in the run's folder where not given.")
    ] = None,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="The most rows of a split that are looked at.")] = 20_000,
    by: Annotated[
        list[str],
        typer.Option(
            "--by", metavar="COLUMN", help="Groups to look at; with shares that are expected: 'sex=f:0.5,m:0.5'. May be repeated."
        ),
    ] = [],  # noqa: B006 - typer copies it
    no_examples: Annotated[bool, typer.Option("--no-examples", help="Leave out the rows that the model gets wrong: raw data.")] = False,
    as_json: Json = False,
) -> Output:
    """Write a report of a finished run: one HTML file."""
    progress.quiet(as_json)
    value = deepseek.report(run, output, rows=rows, examples=not no_examples, by=_groups(by)).to_json()
    lines = [("report", value["output"]), *(("missing", reason) for reason in value["missing"])]
    lines += [
        ("worse", f"{one['name']} ({one['rows']:,} rows): error {one['error']:.4g}, other rows {one['others']:.4g}")
        for one in value["slices"][:3]
    ]
    for one in value["coverage"]:
        worse = [group["name"] for group in one["groups"] if group["surely_worse"]]
        rare = [group["name"] for group in one["groups"] if group["verdict"] in ("missing", "rare")]
        said = [f"surely worse: {', '.join(worse)}"] if worse else ["none is surely worse"]
        said += [f"fewer than expected: {', '.join(rare)}"] if rare else []
        lines.append(("groups", f"{one['column']}, {len(one['groups'])} of them; {'; '.join(said)}"))
    return Output(value, as_table(lines))


def _groups(given: Sequence[str]) -> dict[str, dict[str, float] | None]:
    """Return the columns named, each with the shares that were said."""
    groups: dict[str, dict[str, float] | None] = {}
    for text in given:
        column, has_shares, said = text.partition("=")
        try:
            pairs = [part.rpartition(":") for part in said.split(",")] if has_shares else []
            groups[column] = {name.strip(): float(share) for name, _, share in pairs} or None
        except ValueError:
            raise InputError(f"--by is {text!r}", hint="write a column, or a column and shares: sex=f:0.5,m:0.5") from None
    return groups
