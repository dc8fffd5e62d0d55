"""`deepseek run`: follow a recipe."""

from __future__ import annotations

from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Out, Overrides, RecipePath
from deepseek.cli.output import Output, result_text


def run_verb(
    recipe: RecipePath,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the latest run of this recipe.")] = False,
    out: Out = "runs",
    cluster: Annotated[str | None, typer.Option("--cluster", metavar="ENGINE", help="Run the ranks on a cluster: ray.")] = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Follow a recipe from its data to a bundle."""
    from deepseek.pipeline.preparing.sources import check_sources
    from deepseek.pipeline.recipes import open_recipe  # the recipe's types and Arrow, which `--help` need not wait for

    progress.quiet(as_json)
    overrides = [*overrides, *([] if cluster is None else [f"cluster.type={cluster}"])]
    _, checked = open_recipe(recipe, overrides)  # a mistake is to be told before torch is imported, which takes seconds
    if not resume:
        check_sources(checked)
    value = deepseek.run(recipe, overrides=overrides, resume=resume, out=out).to_json()
    return Output(value, result_text(value))
