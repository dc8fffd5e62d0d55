"""A file, a mapping or text becomes a checked recipe, or an error that names everything wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from deepseek.artifacts.files import read_json, write_json, write_text
from deepseek.artifacts.run import ORIGIN
from deepseek.errors import PluginError, Problem, RecipeError
from deepseek.recipe.document import Document, Key, read_document
from deepseek.recipe.overrides import OVERRIDE, apply_override, mark
from deepseek.recipe.recipe import Recipe
from deepseek.registry import load_plugin

GIVEN = "given"
"""The origin of a value that a mapping from Python brought."""


def load_recipe(recipe: str | PathLike[str] | Mapping[str, Any], *, overrides: Sequence[str] = (), folder: Path | None = None) -> Recipe:
    """Read, override and check a recipe; nothing heavy starts before it is right.

    Plugins that it lists are imported first, since they bring the names that it uses.

    Args:
        recipe: The path of a YAML file, or the recipe as a mapping.
        overrides: Each `PATH=VALUE`, for example `train.epochs=5`; later ones go before.
        folder: The folder that relative paths start at; where not given that of the recipe that the file is a copy of (beside recipes of
            runs and searches stands where they came from), the file's own, or the working directory for a mapping.

    Raises:
        RecipeError: With every problem, each with its file and line.
        InputError: There is no such file.

    Example:
        >>> load_recipe({"data": {"source": "a.csv", "target": "y"}}, overrides=["train.epochs=5"]).train.epochs
        5
    """
    if isinstance(recipe, Mapping):
        document = Document(deepcopy(dict(recipe)), {}, GIVEN)
        given: dict[Key, str] = {}
        mark(given, document.value, path=(), origin=GIVEN)
        folder = folder or Path.cwd()
    else:
        path = Path(fspath(recipe))
        document = read_document(path)
        given = {key: f"{document.file}:{line}" for key, line in document.lines.items()}
        folder = folder or _home(path)
    value = {} if document.value is None else document.value
    if not isinstance(value, dict):
        raise RecipeError([Problem("", f"a recipe is a mapping of sections, not a {type(value).__name__}", document.file, 1)])
    problems = [
        *_override(value, given, [overrides] if isinstance(overrides, str) else overrides),
        *_load_plugins(value.get("plugins"), folder),
    ]
    if "name" not in value:
        value["name"] = _default_name(value, None if isinstance(recipe, Mapping) else Path(fspath(recipe)))
    try:
        checked = Recipe.from_value(value, given=given, folder=folder)
    except RecipeError as error:
        problems += error.problems
    if problems:
        raise RecipeError([_located(problem, given, document) for problem in problems])
    return checked


def keep_recipe(recipe: Recipe, path: Path, *, text: str | None = None) -> None:
    """Write a recipe into a folder of the framework's, and first the folder that its relative paths start at: one that is there is whole.

    Args:
        recipe: The recipe.
        path: Where it goes; `origin.json` goes beside it.
        text: What it reads like; where not given, what differs from the defaults.

    Raises:
        RunError: The folder cannot be written to.
    """
    write_json(path.parent / ORIGIN, {"recipe_folder": str(recipe.folder.absolute())})
    write_text(path, recipe.to_short_yaml() if text is None else text)


def _home(path: Path) -> Path:
    origin = path.absolute().parent / ORIGIN
    return Path(read_json(origin)["recipe_folder"]) if origin.is_file() else origin.parent


def _override(value: dict[str, Any], given: dict[Key, str], overrides: Sequence[str]) -> Iterator[Problem]:
    for text in overrides:
        try:
            apply_override(value, given, text)
        except RecipeError as error:
            yield from error.problems


def _load_plugins(plugins: object, folder: Path) -> Iterator[Problem]:
    for index, plugin in enumerate(plugins if isinstance(plugins, list) else ()):
        if isinstance(plugin, str) and plugin:
            try:
                load_plugin(plugin, folder)
            except PluginError as error:
                yield Problem(f"plugins.{index}", "; ".join(filter(None, (error.message, error.hint))))


def _default_name(value: dict[str, Any], path: Path | None) -> str:
    data = value.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    source = (source.get("path") or source.get("table")) if isinstance(source, dict) else source
    stem = path.stem if path else Path(source).stem if isinstance(source, str) and "://" not in source else ""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100] or "run"


def _located(problem: Problem, given: Mapping[Key, str], document: Document) -> Problem:
    """Add file and line: those of the key itself, or of the nearest section around it."""
    if problem.file is not None:
        return problem
    places = {".".join(map(str, key)): key for key in given}
    path = problem.path
    while path and path not in places:
        path = path.rpartition(".")[0]
    key = places.get(path, ())
    if given.get(key) == OVERRIDE:
        return replace(problem, file=OVERRIDE)
    return replace(problem, file=None if document.file == GIVEN else document.file, line=document.lines.get(key))
