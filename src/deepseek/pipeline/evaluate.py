"""A finished run's metrics on the rows of a file."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

from deepseek.inference import Predictor


def evaluate(run: str | PathLike[str], source: Any, *, plugins: Sequence[str] = ()) -> dict[str, Any]:
    """Measure a run's model on the rows of a source that has the target.

    Args:
        run: A run's folder or a bundle.
        source: The rows with their target: a path or a table.
        plugins: The files or modules of the plugins that the bundle needs.

    Returns:
        `metrics` by name, `rows` measured, `set_aside`: how many rows have no target, are of a class that training did not know, or hold
        an image that cannot be read, by reason, and `warnings`: columns many of whose values training did not know.

    Raises:
        ColumnError: A column is missing.
        DataError: No row can be measured.
    """
    return Predictor.load(run, plugins=plugins).evaluate(source)
