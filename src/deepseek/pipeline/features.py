"""The features of related tables: listed, kept, and computed again for other rows and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any, cast

from deepseek import progress
from deepseek.artifacts import RunFolder, plain_disk_errors, read_json, write_json
from deepseek.data.sources import open_source
from deepseek.data.sources.base import DEFINITIONS
from deepseek.data.sources.related_tables import RelatedTablesSource, with_questions
from deepseek.errors import DataError, InputError
from deepseek.pipeline.recipes import open_recipe
from deepseek.pipeline.table_files import require_format, table_writer
from deepseek.recipe import Recipe, resolve_secrets


def features(
    recipe: str | PathLike[str] | Mapping[str, Any] | Recipe,
    *,
    cutoffs: Any = None,
    at: str | None = None,
    output: str | PathLike[str] | None = None,
    definitions: str | PathLike[str] | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """List the features of related tables, and compute them: for the rows of the recipe, for other cut-offs, or as of one moment.

    Of a run the features are those that its model was trained on, in the same types, whatever the tables have become since: what is written
    is what the model can be asked with.

    Args:
        recipe: A recipe whose source is `related_tables`, or a run's folder.
        cutoffs: Other questions than the recipe's: a table with the columns of its index and its time; labels are not needed.
        at: In their place one moment for every row of the target table: `2024-06-01`, or `now`.
        output: Where the feature table goes; the suffix says the format: `.csv`, `.parquet`, `.arrow`, `.jsonl`. What is there is replaced.
        definitions: Where what the features are made by goes, as JSON; the source takes it back under `definitions`.
        overrides: Keys of the recipe to change, `PATH=VALUE`.

    Returns:
        `features`, a list of name, type, depth and what each is in words; `left_out`, the columns that nothing is made of, and why; and,
        where a table was written, `output` and `rows`.

    Raises:
        InputError: The recipe has no related tables, or does not fit them.
        DataError: A table cannot be used.
    """
    if output is not None:
        require_format(Path(output), what="the features")
    source = _opened(recipe, cutoffs=cutoffs, at=at, overrides=overrides)
    found: dict[str, Any] = {"features": source.features(), "left_out": source.left_out()}
    if definitions is not None:
        write_json(Path(definitions), source.definitions())
        found["definitions"] = str(definitions)
    if output is not None:
        found |= {"output": str(output), "rows": _written(source, Path(output))}
    return found


def _opened(
    recipe: str | PathLike[str] | Mapping[str, Any] | Recipe, *, cutoffs: Any, at: str | None, overrides: Sequence[str]
) -> RelatedTablesSource:
    run, checked = open_recipe(recipe, overrides)
    spec = checked.data.source
    if not isinstance(spec, Mapping) or spec.get("type") != "related_tables":
        raise InputError("the recipe's source is no related tables", hint="data: {source: {type: related_tables, …}}")
    paths = isinstance(cutoffs, str | PathLike)  # relative to where this is called, and not to the recipe
    asked = with_questions(spec, cutoffs=str(Path(cutoffs).absolute()) if paths else cutoffs, at=at)
    known = None if run is None else _definitions_of(run)
    if known is not None:
        asked["definitions"] = known
    return cast(RelatedTablesSource, open_source(resolve_secrets(asked), folder=checked.folder))


def _definitions_of(run: RunFolder) -> dict[str, Any] | None:
    """Return the definitions that a run's rows were made by; nothing of a run that has not read its tables yet."""
    if not run.data.is_file():
        return None
    found: dict[str, Any] | None = read_json(run.data).get("sources", {}).get("source", {}).get(DEFINITIONS)
    return found


def _written(source: RelatedTablesSource, target: Path) -> int:
    """Write the feature table to a file, which is there whole or not at all, and return how many rows it has."""
    partial, rows = target.with_name(f".{target.name}.part"), 0
    try:
        with plain_disk_errors(target), ExitStack() as stack, progress.task("writing features") as advance:
            target.parent.mkdir(parents=True, exist_ok=True)
            writer = stack.enter_context(table_writer(partial, target.suffix, source.schema()))
            for batch in source.read():
                writer.write_batch(batch)
                rows += batch.num_rows
                advance(batch.num_rows)
        lost = sum(batch.num_rows for batch in source.rejects())
        if not rows:
            raise DataError("there is no row to make features of", hint="nothing is asked, or nothing is there by then")
        if lost:
            progress.log(f"{lost:,} cut-offs cannot be asked: they have no index or no time")
        with plain_disk_errors(target):
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return rows
