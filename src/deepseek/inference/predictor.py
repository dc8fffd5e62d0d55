"""From a bundle to answers: the same cleaners and transforms, the same network, the same decoding as in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from deepseek.artifacts import Bundle
from deepseek.data.sources import open_source
from deepseek.errors import ColumnError, closest
from deepseek.inference.backends.base import Backend
from deepseek.inference.backends.torch import TorchBackend, build_task, read_preparation
from deepseek.registry import load_plugin

if TYPE_CHECKING:
    from deepseek.data.preparation import Preparation
    from deepseek.data.sources.base import Source
    from deepseek.data.unknown import Unknown
    from deepseek.fields import Schema
    from deepseek.tasks.base import Task

BATCH_ROWS = 1024
_BACKENDS = {"auto": TorchBackend, "torch": TorchBackend}


class Predictor:
    """Answers questions with a bundle.

    Args:
        bundle: The opened bundle.
        backend: What runs the network.

    Attributes:
        schema: What the columns were in training.

    Example:
        ```python
        predictor = deepseek.load("runs/churn/001")
        answers = predictor.predict(customers)  # pandas, polars or Arrow in, the same out
        ```
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self._backend = backend
        self._preparation = read_preparation(bundle)
        self.schema: Schema = self._preparation.schema
        self.task: Task = build_task(self._preparation, bundle.read("task.json"))

    @classmethod
    def load(cls, path: str | Path, *, backend: Literal["auto", "torch"] = "auto", plugins: Sequence[str] = ()) -> Predictor:
        """Open a bundle, or the bundle of a run.

        Args:
            path: The folder of a bundle, of a run, or of a run's name (then its newest run).
            backend: What runs the network; `auto` takes the fastest that is there.
            plugins: The files or modules of the plugins that the bundle needs.

        Raises:
            BundleError: The bundle is not there, not as it was written, or needs a plugin that is not installed.
        """
        for plugin in plugins:
            load_plugin(plugin, Path())
        bundle = Bundle.open(Path(path))
        return cls(bundle, _BACKENDS[backend](bundle))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a table must have to be answered."""
        return self._preparation.columns

    @property
    def separator(self) -> str:
        """What stands between the labels of one text."""
        target = self._preparation.target
        return target.separator if target else ","

    def predict(self, table: Any, *, batch_rows: int = BATCH_ROWS) -> Any:
        """Answer every row of a table.

        Args:
            table: A pandas, polars or Arrow table, a mapping of columns, or a list of rows as mappings; more columns than needed may be
                there, in any order.
            batch_rows: How many rows go through the network at once.

        Returns:
            The answers in the rows' order, as the kind of table that was given: the column `prediction`, and a `probability_CLASS` column
            for each class where the task has classes.

        Raises:
            ColumnError: A column is missing.
            DataError: A value cannot be what its column is; the message names column, row and value.
        """
        source = open_source(table)
        answers = list(self.stream(source, batch_rows=batch_rows)) or self._no_answers(source.schema())
        return _like(table, pa.Table.from_batches(answers))

    def stream(self, source: Source, *, batch_rows: int = BATCH_ROWS, unknown: Unknown | None = None) -> Iterator[pa.RecordBatch]:
        """Answer a source batch by batch, in bounded memory.

        Args:
            source: Where the rows come from.
            batch_rows: How many rows go through the network at once.
            unknown: Is told of the categories that training did not know.
        """
        source = source.as_text(self._preparation.text_columns)
        self.require_columns(source.schema().names)
        preparation = self._preparation.started()
        if unknown is not None:
            preparation = preparation.watched(unknown)
        for batch in source.read(columns=self.columns, batch_rows=batch_rows):
            yield from self._answer(preparation, batch).to_batches()

    def answer(self, batch: pa.RecordBatch) -> pa.Table:
        """Answer one Arrow batch that has at least the columns needed; it is a table of its own."""
        return self._answer(self._preparation, batch)

    def arrays(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Return what the network is given for a batch: the host's part of the preparation."""
        return _writable(self._preparation.apply(batch))

    def _answer(self, preparation: Preparation, batch: pa.RecordBatch) -> pa.Table:
        return self.task.answer(self._backend.run(_writable(preparation.apply(batch))))

    def require_columns(self, present: Sequence[str]) -> None:
        """Check that a table has every column that is needed.

        Raises:
            ColumnError: One or several are missing; the message says which, and which of the table's columns may be meant.
        """
        missing = [name for name in self.columns if name not in present]
        if not missing:
            return
        spare = [name for name in present if name not in self.columns]
        guesses = [f"{guess!r} may be {name!r}" for name in missing if (guess := closest(name, spare))]
        raise ColumnError(
            f"the table lacks {', '.join(map(repr, missing))}; it has {', '.join(map(repr, present))}",
            hint="; ".join(guesses) or "the model needs every column that it was trained on",
        )

    def _no_answers(self, schema: pa.Schema) -> list[pa.RecordBatch]:
        nothing = pa.RecordBatch.from_pylist([], schema=pa.schema([schema.field(name) for name in self.columns]))
        answers = self.answer(nothing)
        return [pa.RecordBatch.from_pylist([], schema=answers.schema)]


def load(path: str | Path, *, plugins: Sequence[str] = ()) -> Predictor:
    """Open a run or a bundle for predicting; short for `Predictor.load`.

    Args:
        path: The folder of a bundle, of a run, or of a run's name (then its newest run).
        plugins: The files or modules of the plugins that the bundle needs.
    """
    return Predictor.load(path, plugins=plugins)


def _writable(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.require(array, requirements=["C", "W"]) for name, array in arrays.items()}


def _like(given: Any, answers: pa.Table) -> Any:
    kind = type(given).__module__.partition(".")[0]
    if kind == "pandas":
        frame = answers.to_pandas()
        frame.index = given.index
        return frame
    if kind == "polars":
        import polars as pl

        return pl.from_arrow(answers)
    return answers
