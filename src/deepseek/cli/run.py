"""`deepseek run`: follow a recipe."""

from __future__ import annotations

from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Out, Overrides, RecipePath
from deepseek.cli.output import Output, as_text


def run_verb(
    recipe: RecipePath,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the latest run of this recipe.")] = False,
    out: Out = "runs",
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Follow a recipe from its data to a bundle."""
    progress.quiet(as_json)
    value = deepseek.run(recipe, overrides=overrides, resume=resume, out=out).to_json()
    return Output(value, as_text(value))
