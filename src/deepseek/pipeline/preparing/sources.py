"""A recipe's sources: opened, seen to have the columns that it names, and written beside the runs where they are tables in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import pyarrow as pa

from deepseek.artifacts import CACHE, StageCache
from deepseek.data.sources import is_database, is_url, open_source
from deepseek.data.sources.base import Source, rooted
from deepseek.data.sources.memory import is_table
from deepseek.errors import UnknownNameError
from deepseek.recipe import Recipe, resolve_secrets


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
    require_recipe_columns(recipe, source_of(recipe, data.source).schema().names)
    if data.test is not None:
        require_test_columns(recipe, source_of(recipe, data.test).schema().names)


def require_recipe_columns(recipe: Recipe, names: Sequence[str]) -> None:
    """See that a source has every column that a recipe names.

    Raises:
        UnknownNameError: One is not there.
    """
    data, split = recipe.data, recipe.data.split
    for name in (
        *data.targets,
        *data.drop,
        *data.fields,
        *data.spellings,
        *data.series_columns,
        *data.known,
        *data.static,
        *filter(None, (data.weight, data.time, split.group, split.time, split.column)),
    ):
        if name not in names:
            raise UnknownNameError("column", name, names, hint=reading_hint(names))


def require_test_columns(recipe: Recipe, names: Sequence[str]) -> None:
    """See that a source of test rows has what is needed to measure on them: the targets and the weight.

    Raises:
        UnknownNameError: A column is not there.
    """
    for name in (*recipe.data.targets, *filter(None, (recipe.data.weight,))):
        if name not in names:
            raise UnknownNameError("column of the test rows", name, names, hint=reading_hint(names))


def named_source(source: Any, out: Path) -> Any:
    """Return a source as a recipe names it, by path, URL or spec: a table in memory is written beside the runs first.

    Args:
        source: A path, a database's URL, a source's spec, or a table in memory.
        out: The folder that holds the runs.

    Raises:
        DataError: It is no table.
    """
    if is_database(source) or is_url(source):
        return source
    if isinstance(source, str | PathLike):
        return str(Path(fspath(source)).absolute())
    if isinstance(source, Mapping) and isinstance(source.get("type"), str):
        return _with_named_parts(source, out)
    opened = open_source(source)

    def build(folder: Path) -> None:
        schema = rooted(opened.schema(), Path.cwd())  # paths in a table in memory are relative to where Python runs
        with pa.OSFile(str(folder / "table.arrow"), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for batch in opened.read():
                writer.write_batch(batch)

    folder, _ = StageCache(out / CACHE).folder("tables", {"content": opened.fingerprint(), "folder": str(Path.cwd())}, build)
    return str((folder / "table.arrow").absolute())


def _with_named_parts(spec: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Return a spec whose own sources, such as those of related tables, are named wherever they are tables in memory."""
    named: dict[str, Any] = {}
    for key, part in spec.items():
        if key == "source" and (isinstance(part, Source) or (is_table(part) and not _are_paths(part))):
            named[key] = named_source(part, out)
        else:
            named[key] = _with_named_parts(part, out) if isinstance(part, Mapping) else part
    return named


def _are_paths(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str | PathLike) for item in value)


def reading_hint(names: Sequence[str]) -> str | None:
    """Say how a table may have to be read, where its columns look as if it was read wrongly."""
    if len(names) == 1:
        return "the table was read as one column: is its delimiter another? say data.source={type: csv, path: …, delimiter: …}"
    if names and all(name == f"column_{number}" for number, name in enumerate(names)):
        return "the first line was taken for data; where it names the columns, say data.source={type: csv, path: …, header: true}"
    return None
