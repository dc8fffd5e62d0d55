"""What a recipe comes to, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from deepseek.recipe import load_recipe


def show(recipe: str | PathLike[str] | Mapping[str, Any], *, overrides: Sequence[str] = ()) -> str:
    """Return every value of a recipe with where it came from: a line of the file, an override, or a default; `auto` stands as `auto`.

    Args:
        recipe: The recipe's file, or its content as a mapping.
        overrides: Each `PATH=VALUE`, for example `train.epochs=5`.

    Raises:
        RecipeError: The recipe is wrong.
    """
    return load_recipe(recipe, overrides=overrides).show()
