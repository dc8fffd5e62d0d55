"""`deepseek annotate`: rows to people who label them in Label Studio, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, RunPath
from deepseek.cli.output import Output, as_table

Server = Annotated[str, typer.Option("--server", metavar="URL", help="Where Label Studio is.")]
AT = "http://127.0.0.1:8080"
"""Where a server is that was begun without more."""


class Order(StrEnum):
    """Which rows are sent first."""

    least_confident = "least_confident"
    margin = "margin"
    entropy = "entropy"
    as_is = "as_is"


def push_verb(
    run: RunPath,
    rows: Annotated[str, typer.Argument(metavar="ROWS", help="The rows to be labelled: a file.")],
    *,
    project: Annotated[str, typer.Option("--project", metavar="NUMBER|TITLE", help="A project, or the title of one to be made.")],
    server: Server = AT,
    order: Annotated[
        Order, typer.Option("--order", metavar="WAY", help="least_confident, margin, entropy or as_is.")
    ] = Order.least_confident,
    most: Annotated[int | None, typer.Option("--most", metavar="ROWS", help="The most rows sent.")] = None,
    as_json: Json = False,
) -> Output:
    """Send rows with a model's answers, those that it is least sure of first."""
    progress.quiet(as_json)
    number = int(project) if project.isdigit() else project
    found = deepseek.push_tasks(run, rows, url=server, project=number, order=order.value, most=most)
    return Output(found, as_table([(key.replace("_", " "), f"{value:,}") for key, value in found.items()]))


def pull_verb(
    *,
    project: Annotated[int, typer.Option("--project", metavar="NUMBER", help="The project.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Where the annotations go.")],
    server: Server = AT,
    as_json: Json = False,
) -> Output:
    """Take over what people said, and how far they agree."""
    progress.quiet(as_json)
    found = deepseek.pull_annotations(server, project, output)
    rows = [("output", found["output"]), *((key, f"{found[key]:,}") for key in ("tasks", "annotated", "annotations"))]
    for control, one in found["agreement"].items():
        value = "no task has two annotations" if math.isnan(one["value"]) else f"{one['value']:.3f} on {one['tasks']:,} tasks"
        rows.append((f"{control}: {one['measure']}", value))
    return Output(found, as_table(rows))


ACTIONS: dict[str, Callable[..., Output]] = {"push": push_verb, "pull": pull_verb}
SUMMARY = "Let people label rows in Label Studio, with a model's answers to begin with."
