"""The recipe that is meant: one that is given as a file, a mapping or a run, or one made up for a bare file or table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from deepseek.artifacts import RunFolder
from deepseek.data.sources import open_source
from deepseek.errors import ColumnError, InputError, UnknownNameError
from deepseek.pipeline.keras_models import model_spec
from deepseek.pipeline.preparing.sources import check_sources, named_source, reading_hint, source_of
from deepseek.recipe import Recipe, load_recipe


def open_recipe(recipe: str | PathLike[str] | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()) -> tuple[RunFolder | None, Recipe]:
    """Return a checked recipe, and the run that it comes from where a run's folder was given.

    Raises:
        RecipeError: The recipe is wrong.
        InputError: It is no recipe at all.
        BundleError: The folder is no run.
    """
    if isinstance(recipe, Recipe):
        return None, load_recipe(recipe.to_value(), folder=recipe.folder, overrides=overrides) if overrides else recipe
    if isinstance(recipe, Mapping):
        return None, load_recipe(recipe, overrides=overrides)
    if not isinstance(recipe, str | PathLike):
        raise InputError(f"the recipe is given as {recipe!r}", hint="give a YAML file, a mapping, or a run's folder")
    if not Path(recipe).is_dir():
        return None, load_recipe(recipe, overrides=overrides)
    given = RunFolder.open(Path(recipe))
    return given, load_recipe(given.recipe, overrides=overrides)  # relative paths start where the recipe came from


def recipe_of(  # noqa: PLR0913 (what `deepseek.train` is told)
    source: Any,
    *,
    target: str | Sequence[str] | None = None,
    test: Any = None,
    out: str | PathLike[str] = "runs",
    time_limit: str | float | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    model: Any = None,
) -> Recipe:
    """Return the recipe that a bare file or table comes to; the arguments are those of `deepseek.train`.

    Raises:
        InputError: The target is missing or misspelt, or an override is wrong.
        DataError: The data cannot be opened.
    """
    data: dict[str, Any] = {"source": named_source(source, Path(out)), **_split_of(source, overrides)}
    recipe: dict[str, Any] = {"name": name or _name_of(source), "data": data}
    if model is not None:
        recipe["model"] = model_spec(model, Path(out))
    first = load_recipe(recipe, overrides=overrides)  # an override may say how the source is to be read
    data["target"] = _target(target, source_of(first, first.data.source).schema().names, source)
    if test is not None:
        data["test"] = named_source(test, Path(out))
    if time_limit is not None:
        recipe["train"] = {"time_limit": time_limit}
    checked = load_recipe(recipe, overrides=overrides)
    check_sources(checked)
    return checked


def _split_of(source: Any, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the split that a table in memory brings, as a dataset's parts are one: the file that it is written to does not know it."""
    if isinstance(source, str | PathLike) or any(text.lstrip().startswith("data.split") for text in overrides):
        return {}
    column = open_source(source).given_split()
    return {} if column is None else {"split": {"column": column}}


def _target(target: str | Sequence[str] | None, columns: Sequence[str], source: Any) -> str | list[str]:
    if target is None:
        if isinstance(source, str | PathLike) and Path(source).is_dir():
            found = next((name for name in ("label", "mask") if name in columns), None)
            if found is not None:
                return found
        raise ColumnError("the column to predict is not given", hint=f"name it with --target; the columns are {', '.join(columns)}")
    given = [target] if isinstance(target, str) else target
    if not isinstance(given, Sequence) or not given or not all(isinstance(name, str) for name in given):
        raise ColumnError(f"the column to predict is given as {target!r}", hint=f"name one or several of {', '.join(columns)}")
    names = [part for name in given for part in ([name] if name in columns else map(str.strip, name.split(",")))]
    for name in names:
        if name not in columns:
            raise UnknownNameError("column", name, columns, hint=reading_hint(columns))
    return names[0] if len(names) == 1 else names


def _name_of(source: Any) -> str:
    if isinstance(source, Mapping):  # a spec, whose URL is nobody's name
        stem = str(source.get("table") or source.get("path") or source.get("target_table") or "table").rpartition("/")[2]
        stem = stem.rpartition(".")[2] if "table" in source else stem.partition(".")[0]
    else:
        given = fspath(source) if isinstance(source, str | PathLike) else "table"
        stem = Path(given.partition("?")[0] if "://" in given else given).name.split(".")[0]  # what follows may be a secret
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100] or "table"
