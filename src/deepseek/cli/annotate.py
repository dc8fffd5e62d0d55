"""`deepseek annotate`: rows to people who label them in Label Studio, and back."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json
from deepseek.cli.output import Output, as_table
from deepseek.errors import InputError


class Action(StrEnum):
    """The two ways."""

    push = "push"
    pull = "pull"


class Order(StrEnum):
    """Which rows are sent first."""

    least_confident = "least_confident"
    margin = "margin"
    entropy = "entropy"
    as_is = "as_is"


def annotate_verb(  # noqa: PLR0913 - its arguments are the verb's options
    action: Annotated[Action, typer.Argument(metavar="ACTION", help="push or pull.")],
    what: Annotated[list[str], typer.Argument(metavar="[RUN ROWS]", help="Of push: the run whose model answers, and the rows.")] = [],  # noqa: B006 - typer copies it
    *,
    project: Annotated[str, typer.Option(metavar="NUMBER|TITLE", help="The project; of push also the title of a new one.")],
    server: Annotated[str, typer.Option(metavar="URL", help="Where Label Studio is.")] = "http://127.0.0.1:8080",
    order: Annotated[
        Order, typer.Option(metavar="WAY", help="Of push: least_confident, margin, entropy or as_is.")
    ] = Order.least_confident,
    most: Annotated[int | None, typer.Option(metavar="ROWS", help="Of push: the most rows sent.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="Of pull: where the annotations go.")] = None,
    as_json: Json = False,
) -> Output:
    """Let people label rows in Label Studio, with a model's answers to begin with, and take over what they said."""
    progress.quiet(as_json)
    if action is Action.push:
        if len(what) != 2:
            raise InputError(f"push needs a run and rows; given: {' '.join(what) or 'nothing'}")
        number = int(project) if project.isdigit() else project
        found = deepseek.push_tasks(what[0], what[1], url=server, project=number, order=order.value, most=most)
        return Output(found, as_table([(key.replace("_", " "), f"{value:,}") for key, value in found.items()]))
    if what or output is None or not project.isdigit():
        raise InputError("pull needs --output FILE and the number of a project, and nothing else")
    found = deepseek.pull_annotations(server, int(project), output)
    rows = [
        (key, f"{found[key]:,}" if isinstance(found[key], int) else str(found[key]))
        for key in ("output", "tasks", "annotated", "annotations")
    ]
    for control, one in found["agreement"].items():
        value = "no task has two annotations" if math.isnan(one["value"]) else f"{one['value']:.3f} on {one['tasks']:,} tasks"
        rows.append((f"{control}: {one['measure']}", value))
    return Output(found, as_table(rows))
