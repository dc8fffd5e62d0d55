"""From a bare file or table to a model: a recipe is made up, written down, and followed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deepseek import progress as display
from deepseek.artifacts import StageCache
from deepseek.data.sources import open_source
from deepseek.errors import ColumnError, UnknownNameError
from deepseek.pipeline.result import RunResult
from deepseek.pipeline.run import CACHE, run
from deepseek.recipe import load_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deepseek.data.sources.base import Source


def train(  # noqa: PLR0913 (what is said on the command line)
    source: Any,
    *,
    target: str | Sequence[str] | None = None,
    test: Any = None,
    out: str | PathLike[str] = "runs",
    time_limit: str | float | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    progress: bool = True,
) -> RunResult:
    """Train a model on a file, a folder or a table; the recipe that it comes to lies in the run's folder.

    Args:
        source: A path (CSV, JSON, JSON Lines, Parquet, Arrow, npz, a folder of images by class; also with `*`), or a pandas, polars or
            Arrow table, a mapping of NumPy arrays, or a Hugging Face dataset.
        target: The column to predict, or several. A folder of classes needs none.
        test: Test rows of their own, given like `source`; else a part of `source` is kept for testing.
        out: The folder that holds the runs.
        time_limit: Time after which training ends with the best weights so far: `"90s"`, `"5m"`, or seconds.
        overrides: Keys of the recipe, each `PATH=VALUE`: `train.epochs=5`.
        name: The run's name; the file's where not given.
        progress: Whether to show how it goes.

    Returns:
        The run's folder, its bundle, and the metrics on validation and test rows.

    Raises:
        InputError: The target is missing or misspelt, or an override is wrong; nothing was started.
        DataError: The data cannot be used.

    Example:
        ```python
        run = deepseek.train("customers.csv", target="churned")
        print(run.metrics["test"]["auc"])
        ```
    """
    with _quiet(not progress):
        opened = open_source(source)
        columns = opened.schema().names
        data: dict[str, Any] = {"source": _named(source, opened, Path(out)), "target": _target(target, columns, source)}
        if test is not None:
            data["test"] = _named(test, open_source(test), Path(out))
        recipe: dict[str, Any] = {"name": name or _name_of(source), "data": data}
        if time_limit is not None:
            recipe["train"] = {"time_limit": time_limit}
        return run(load_recipe(recipe, overrides=overrides), out=out)


def _target(target: str | Sequence[str] | None, columns: Sequence[str], source: Any) -> str | list[str]:
    if target is None:
        if isinstance(source, str | PathLike) and Path(source).is_dir() and "label" in columns:
            return "label"
        raise ColumnError("the column to predict is not given", hint=f"name it with --target; the columns are {', '.join(columns)}")
    names = [target] if isinstance(target, str) else list(target)
    for name in names:
        if name not in columns:
            raise UnknownNameError("column", name, columns)
    return names[0] if len(names) == 1 else names


def _named(source: Any, opened: Source, out: Path) -> str:
    """Return a path for a source, so that a recipe can name it: a table in memory is written beside the runs first."""
    if isinstance(source, str | PathLike):
        return str(Path(fspath(source)).absolute())

    def build(folder: Path) -> None:
        with pa.OSFile(str(folder / "table.arrow"), "wb") as file, pa.ipc.new_file(file, opened.schema()) as writer:
            for batch in opened.read():
                writer.write_batch(batch)

    folder, _ = StageCache(out / CACHE).folder("tables", {"content": opened.fingerprint()}, build)
    return str((folder / "table.arrow").absolute())


def _name_of(source: Any) -> str:
    stem = Path(fspath(source)).name.split(".")[0] if isinstance(source, str | PathLike) else "table"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "table"


@contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    before = display.is_quiet()
    display.quiet(wanted or before)
    try:
        yield
    finally:
        display.quiet(before)
