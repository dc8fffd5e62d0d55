"""What a run that goes on must have in common with what it was, and what may be another: where it trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deepseek import progress
from deepseek.artifacts import RunFolder, write_text
from deepseek.errors import InputError
from deepseek.recipe import Recipe, load_recipe
from deepseek.recipe.load import keep_recipe

PLACES = ("cluster", "train.devices", "train.strategy", "train.shares", "train.stall")
"""Where a run trains, and how long ranks wait for each other: keys that change its numbers by no more than rounding."""
_Difference = tuple[str, Any, Any]


def require_same_recipe(folder: RunFolder, recipe: Recipe) -> None:
    """Refuse to go on with a run by a recipe that says something else than its own, but for where the run trains.

    Args:
        folder: The run.
        recipe: The recipe as it is given now.

    Raises:
        InputError: It says something else.
    """
    found = _differences(load_recipe(folder.recipe, folder=recipe.folder).to_value(), recipe.to_value(), "")
    if wrong := [difference for difference in found if not _is_place(difference[0])]:
        hint = f"resume with that recipe, or start a new run; on a resume these may be others: {', '.join(PLACES)}"
        raise InputError(f"{folder.path} was made by another recipe: {_told(wrong)}", hint=hint)


def move(folder: RunFolder, recipe: Recipe) -> None:
    """Write down that a run goes on elsewhere than it was: its recipe says so from here on.

    Args:
        folder: The run.
        recipe: Its recipe, with the places where it goes on.
    """
    if found := list(_differences(load_recipe(folder.recipe, folder=recipe.folder).to_value(), recipe.to_value(), "")):
        progress.log(f"going on elsewhere: {_told(found)}")
        keep_recipe(recipe, folder.recipe)


def moved(folder: RunFolder, recipe: Recipe) -> Recipe:
    """Return the resolved recipe of a run that goes on, with the places that its recipe names now, also in its file.

    Args:
        folder: The run.
        recipe: Its recipe.
    """
    resolved = load_recipe(folder.resolved, folder=recipe.folder)
    value, now = resolved.to_value(), recipe.to_value()
    for path in PLACES:
        *sections, key = path.split(".")
        there, here = value, now
        for section in sections:
            there, here = there[section], here[section]
        there[key] = here[key]
    if value == resolved.to_value():
        return resolved
    fresh = Recipe.from_value(value, folder=recipe.folder)
    write_text(folder.resolved, fresh.to_yaml())
    return fresh


def _is_place(path: str) -> bool:
    return any(path == place or path.startswith(f"{place}.") for place in PLACES)


def _told(found: list[_Difference]) -> str:
    return "; ".join(f"{path} was {before!r} and is {now!r}" for path, before, now in found)


def _differences(kept: Any, now: Any, path: str) -> Iterator[_Difference]:
    if isinstance(kept, dict) and isinstance(now, dict):
        for key in sorted({*kept, *now}):
            yield from _differences(kept.get(key), now.get(key), f"{path}.{key}" if path else key)
    elif kept != now:
        yield path, kept, now
