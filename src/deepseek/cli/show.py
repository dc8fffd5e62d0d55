"""`deepseek show`: every value of a recipe and where it came from."""

from __future__ import annotations

import deepseek
from deepseek.cli.options import Json, Overrides, RecipePath
from deepseek.cli.output import Output


def show_verb(recipe: RecipePath, *, overrides: Overrides = [], as_json: Json = False) -> Output:  # noqa: B006 - typer copies it
    """Print a recipe with the origin of each value."""
    from deepseek.pipeline.recipes import open_recipe

    text = deepseek.show(recipe, overrides=overrides)
    if not as_json:
        return Output({}, text)
    _, loaded = open_recipe(recipe, overrides)
    return Output({"recipe": loaded.to_value(), "origins": loaded.origins}, text)
