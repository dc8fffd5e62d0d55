"""`deepseek snapshot`: a stream's messages into its folder."""

from __future__ import annotations

from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Overrides
from deepseek.cli.output import Output, as_table


def snapshot_verb(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE|RUN", help="A recipe whose source is a stream: kafka, pulsar, stream.")],
    *,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Read a stream up to now into the folder of its snapshot, behind what is there already."""
    progress.quiet(as_json)
    found = deepseek.snapshot(recipe, overrides=overrides)
    lines = [
        ("version", f"{found['version']:,}"),
        ("new messages", f"{found['new']:,}"),
        ("rows", f"{found['rows']:,}"),
        ("set aside", f"{found['rejected']:,}"),
        *((f"missing in {name}", f"{count:,}  no longer kept when they were wanted") for name, count in found["missing"].items()),
        ("folder", found["path"]),
    ]
    return Output(found, as_table(lines))
