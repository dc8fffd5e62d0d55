"""`deepseek features`: what related tables come to, and the same for other rows and times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Overrides
from deepseek.cli.output import Output, as_table, shortened

_WIDTH = 110


def features_verb(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe whose source is related tables, or a run's folder.")],
    *,
    cutoffs: Annotated[str | None, typer.Option("--cutoffs", metavar="FILE", help="Other rows and times to ask about.")] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="Ask about every row as of one moment, or now.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="File for the feature table.")] = None,
    definitions: Annotated[str | None, typer.Option("--definitions", metavar="FILE", help="File for what features are made by.")] = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """List the features of related tables, and compute them."""
    progress.quiet(as_json)
    found = deepseek.features(recipe, cutoffs=cutoffs, at=at, output=output, definitions=definitions, overrides=overrides)
    return Output(found, _text(found))


def _text(found: Mapping[str, Any]) -> str:
    rows = [("feature", "type", "what it is"), *((one["name"], one["type"], shortened(one["what"], _WIDTH)) for one in found["features"])]
    parts = [as_table(rows), "", f"{len(found['features'])} features"]
    parts += [f"left out: {name} ({why})" for name, why in found["left_out"].items()]
    if "output" in found:
        parts.append(f"{found['rows']:,} rows in {found['output']}")
    if "definitions" in found:
        parts.append(f"definitions in {found['definitions']}")
    return "\n".join(parts)
