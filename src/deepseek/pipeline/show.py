"""What a recipe comes to, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from deepseek.pipeline.recipes import open_recipe


def show(recipe: str | PathLike[str] | Mapping[str, Any], *, overrides: Sequence[str] = ()) -> str:
    """Return every value of a recipe with where it came from: a line of the file, an override, or a default; `auto` stands as `auto`.

    Args:
        recipe: The recipe's file, its content as a mapping, or a run's folder for the recipe that it followed.
        overrides: Each `PATH=VALUE`, for example `train.epochs=5`.

    Raises:
        BundleError: The folder is no run.
        RecipeError: The recipe is wrong.
    """
    return open_recipe(recipe, overrides)[1].show()
