"""What is given, checked before anything heavy is imported: the recipe, its sources, the columns that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deepseek.artifacts import RunFolder, StageCache
from deepseek.data.sources import open_source
from deepseek.data.sources.base import rooted
from deepseek.errors import ColumnError, InputError, UnknownNameError
from deepseek.recipe import Recipe, load_recipe, resolve_secrets

if TYPE_CHECKING:
    from deepseek.data.sources.base import Source

CACHE = ".cache"


def open_recipe(recipe: str | PathLike[str] | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()) -> tuple[RunFolder | None, Recipe]:
    """Return a checked recipe, and the run that it comes from where a run's folder was given.

    Raises:
        RecipeError: The recipe is wrong.
        InputError: It is no recipe at all.
        BundleError: The folder is no run.
    """
    if isinstance(recipe, Recipe):
        return None, recipe
    if isinstance(recipe, Mapping):
        return None, load_recipe(recipe, overrides=overrides)
    if not isinstance(recipe, str | PathLike):
        raise InputError(f"the recipe is given as {recipe!r}", hint="give a YAML file, a mapping, or a run's folder")
    if not Path(recipe).is_dir():
        return None, load_recipe(recipe, overrides=overrides)
    given = RunFolder.open(Path(recipe))
    return given, load_recipe(given.recipe, overrides=overrides)  # relative paths start where the recipe came from


def source_of(recipe: Recipe, spec: Any) -> Source:
    """Return the source that a recipe names, secrets put in from the environment; the recipe itself keeps the references."""
    return open_source(resolve_secrets(spec), folder=recipe.folder)


def source_changed(recipe: Recipe, data: Mapping[str, Any]) -> bool:
    """Whether a source is known to hold other content than when the run was made.

    Args:
        recipe: The run's recipe.
        data: The run's `data.json`.
    """
    texts = [name for name, kind in data["sources"]["source"]["columns"].items() if "string" in kind]
    for name, spec, wanted in (("source", recipe.data.source, []), ("test", recipe.data.test, texts)):
        if spec is None or name not in data["sources"]:
            continue
        now, then = source_of(recipe, spec).as_text(wanted).fingerprint(), data["sources"][name]["fingerprint"]
        if None not in (now, then) and now != then:
            return True
    return False


def check_sources(recipe: Recipe) -> None:
    """See that a recipe's sources can be opened and have the columns that it names.

    Raises:
        DataError: A source cannot be opened.
        InputError: A column is not there.
    """
    data = recipe.data
    require_named(recipe, source_of(recipe, data.source).schema().names)
    if data.test is not None:
        require_measured(recipe, source_of(recipe, data.test).schema().names)


def require_named(recipe: Recipe, names: Sequence[str]) -> None:
    """See that a source has every column that a recipe names.

    Raises:
        UnknownNameError: One is not there.
    """
    data, split = recipe.data, recipe.data.split
    for name in (*data.targets, *data.drop, *data.fields, *data.spellings, *filter(None, (data.weight, split.group, split.time, split.column))):
        if name not in names:
            raise UnknownNameError("column", name, names, hint=_reading_hint(names))


def require_measured(recipe: Recipe, names: Sequence[str]) -> None:
    """See that a source of test rows has what is needed to measure on them: the targets and the weight.

    Raises:
        UnknownNameError: A column is not there.
    """
    for name in (*recipe.data.targets, *filter(None, (recipe.data.weight,))):
        if name not in names:
            raise UnknownNameError("column of the test rows", name, names, hint=_reading_hint(names))


def recipe_of(
    source: Any,
    *,
    target: str | Sequence[str] | None = None,
    test: Any = None,
    out: str | PathLike[str] = "runs",
    time_limit: str | float | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
) -> Recipe:
    """Return the recipe that a bare file or table comes to; the arguments are those of `deepseek.train`.

    Raises:
        InputError: The target is missing or misspelt, or an override is wrong.
        DataError: The data cannot be opened.
    """
    data: dict[str, Any] = {"source": path_of(source, Path(out)), **_split_of(source, overrides)}
    recipe: dict[str, Any] = {"name": name or _name_of(source), "data": data}
    first = load_recipe(recipe, overrides=overrides)  # an override may say how the source is to be read
    data["target"] = _target(target, source_of(first, first.data.source).schema().names, source)
    if test is not None:
        data["test"] = path_of(test, Path(out))
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


def path_of(source: Any, out: Path) -> str:
    """Return a path for a source, so that a recipe can name it: a table in memory is written beside the runs first.

    Args:
        source: A path, or a table in memory.
        out: The folder that holds the runs.

    Raises:
        DataError: It is no table.
    """
    if isinstance(source, str | PathLike):
        return str(Path(fspath(source)).absolute())
    opened = open_source(source)

    def build(folder: Path) -> None:
        schema = rooted(opened.schema(), Path.cwd())  # paths in a table in memory are relative to where Python runs
        with pa.OSFile(str(folder / "table.arrow"), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for batch in opened.read():
                writer.write_batch(batch)

    folder, _ = StageCache(out / CACHE).folder("tables", {"content": opened.fingerprint(), "folder": str(Path.cwd())}, build)
    return str((folder / "table.arrow").absolute())


def _target(target: str | Sequence[str] | None, columns: Sequence[str], source: Any) -> str | list[str]:
    if target is None:
        if isinstance(source, str | PathLike) and Path(source).is_dir() and "label" in columns:
            return "label"
        raise ColumnError("the column to predict is not given", hint=f"name it with --target; the columns are {', '.join(columns)}")
    given = [target] if isinstance(target, str) else target
    if not isinstance(given, Sequence) or not given or not all(isinstance(name, str) for name in given):
        raise ColumnError(f"the column to predict is given as {target!r}", hint=f"name one or several of {', '.join(columns)}")
    names = [part for name in given for part in ([name] if name in columns else map(str.strip, name.split(",")))]
    for name in names:
        if name not in columns:
            raise UnknownNameError("column", name, columns, hint=_reading_hint(columns))
    return names[0] if len(names) == 1 else names


def _reading_hint(names: Sequence[str]) -> str | None:
    if len(names) == 1:
        return "the table was read as one column: is its delimiter another? say data.source={type: csv, path: …, delimiter: …}"
    if names and all(name == f"column_{number}" for number, name in enumerate(names)):
        return "the first line was taken for data; where it names the columns, say data.source={type: csv, path: …, header: true}"
    return None


def _name_of(source: Any) -> str:
    stem = Path(fspath(source)).name.split(".")[0] if isinstance(source, str | PathLike) else "table"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100] or "table"
