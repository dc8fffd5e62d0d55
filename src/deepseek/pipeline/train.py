"""From a bare file or table to a model: a recipe is made up, written down, and followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek import progress as display
from deepseek.artifacts import RunFolder
from deepseek.pipeline.keras_models import keras_elsewhere, run_elsewhere
from deepseek.pipeline.recipes import recipe_of
from deepseek.pipeline.result import RunResult
from deepseek.pipeline.run import finished, run

if TYPE_CHECKING:
    pass


def train(  # noqa: PLR0913 (what is said on the command line)
    source: Any,
    *,
    target: str | Sequence[str] | None = None,
    test: Any = None,
    model: Any = None,
    out: str | PathLike[str] = "runs",
    time_limit: str | float | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    progress: bool = True,
) -> RunResult:
    """Train a model on a file, a folder or a table; the recipe that it comes to lies in the run's folder.

    Args:
        source: A path (CSV, JSON, JSON Lines, Parquet, Arrow, npz, a folder of images by class; also with `*`), or a pandas, polars or
            Arrow table, a mapping of NumPy arrays, a Hugging Face dataset, or the spec of a source, such as
            `{"type": "sql", "url": "…", "table": "customers"}`.
        target: The column to predict, or several, in a list or with commas. A folder of classes needs none.
        test: Test rows of their own, given like `source`; else a part of `source` is kept for testing.
        model: The network: its name, a mapping with the key `type`, or a `keras.Model` of Keras' own layers, which is trained on from the
            numbers that it has; chosen by the data where not given.
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
    with display.hushed(not progress):
        recipe = recipe_of(source, target=target, test=test, out=out, time_limit=time_limit, overrides=overrides, name=name, model=model)
        if keras_elsewhere() and isinstance(recipe.model, Mapping) and recipe.model["type"] == "keras":
            return finished(RunFolder(run_elsewhere(recipe, Path(out))))
        return run(recipe, out=out)
