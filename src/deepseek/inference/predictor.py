"""From a bundle to answers: the same cleaners and transforms, the same network, the same decoding as in training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.artifacts import Bundle
from deepseek.data.padding import as_arrays, in_array_pieces, rows_together
from deepseek.data.sources import open_source
from deepseek.data.sources.base import rooted_batches
from deepseek.data.targets import require_plain
from deepseek.data.windows.preparation import WindowPreparation
from deepseek.data.windows.tables import LatestWindows, is_long, long_table
from deepseek.errors import OF_BATCH, ColumnError, InputError, closest, rows_counted
from deepseek.inference.backends.base import Backend
from deepseek.inference.backends.choice import AUTO, MEASURED, SERVED, open_backend
from deepseek.inference.masks import answer_masks
from deepseek.inference.reading import read_preparation
from deepseek.inference.tables import in_kind, like, open_rows, with_names
from deepseek.registry import Spec, load_plugin
from deepseek.tasks import FORECASTING, TASK_OF_KIND
from deepseek.tasks.answers import answer_table, class_names, forecast_table
from deepseek.tasks.box_answers import Selection

if TYPE_CHECKING:
    from deepseek.data.preparation import Preparation
    from deepseek.data.sources.base import Source
    from deepseek.data.targets import TargetSpec
    from deepseek.data.transforms.base import Array
    from deepseek.data.unknown_categories import Unknown
    from deepseek.fields import Schema
    from deepseek.tasks.base import Task

BATCH_ROWS = 1024
_PICTURES_AT_ONCE = 32
"""Pictures that a detector looks at together: its maps are large, and it answers with thousands of places for each."""


class Predictor:
    """Answers questions with a bundle.

    Where the backend needs no PyTorch, neither does anything else on the way from a row to its answer.

    Args:
        bundle: The opened bundle.
        backend: What runs the network.
        opened: The bundle that `bundle` is an export of, where one of those was asked for; `bundle` itself where not given.

    Attributes:
        bundle: The bundle; the exported one where the backend runs an export of what was opened.
        opened: The bundle that was opened. It lies where its run does, and holds the network itself, which an export does not.
        backend: What runs the network.
        schema: What the columns were in training.

    Example:
        ```python
        predictor = deepseek.load("runs/churn/001")
        answers = predictor.predict(customers)  # pandas, polars or Arrow in, the same out
        ```
    """

    def __init__(self, bundle: Bundle, backend: Backend, *, opened: Bundle | None = None) -> None:
        self.bundle, self.opened = bundle, opened or bundle
        self.backend = backend
        self._preparation = read_preparation(bundle)
        self.schema: Schema = self._preparation.schema
        if self._preparation.target is None:
            raise InputError("the data were prepared without a target", hint="name the column to predict under data.target")
        self._target: TargetSpec = self._preparation.target.spec
        task: dict[str, Any] = bundle.read("task.json")
        self._task_name, self._selection = str(task["type"]), Selection.of(task)
        self._levels: list[float] | None = task["loss"].get("levels", []) if self._task_name == FORECASTING else None

    @classmethod
    def load(cls, path: str | PathLike[str], *, backend: Spec = AUTO, plugins: Sequence[str] = (), served: bool = False) -> Predictor:
        """Open a bundle, or the bundle of a run.

        Args:
            path: The folder of a bundle, of a run, or of a run's name (then its newest run); or what `train` or `run` returned.
            backend: What runs the network: `torch`, `onnxruntime`, `openvino`, or a mapping with the `type` and its settings. `auto` takes
                what an exported bundle was exported for, and for a run what `deepseek export RUN --to auto` found to be fastest on this
                machine, else PyTorch.
            plugins: The files or modules of the plugins that the bundle needs.
            served: Whether `auto` may also take the form that a server has found for itself.

        Raises:
            BundleError: The bundle is not there, not as it was written, or needs a plugin that is not installed.
            InputError: The backend cannot run this bundle, and the run was not exported for it.
        """
        for plugin in plugins:
            load_plugin(plugin, Path())
        folders = (MEASURED, SERVED) if served else (MEASURED,)
        opened = Bundle.open(Path(path))
        return cls(*open_backend(opened, backend, folders=folders), opened=opened)

    def __repr__(self) -> str:
        target = ", ".join(self.schema.target)
        return f"Predictor({self._target.kind} {target!r} from {len(self.columns)} columns: {self.bundle.path})"

    @property
    def classes(self) -> tuple[Any, ...]:
        """The classes or labels in the order of their probabilities, numbers where the table held numbers; empty for a regression."""
        return tuple(class_names(self._target).to_pylist()) if self._target.classes else ()

    @property
    def answers_masks(self) -> bool:
        """Whether each answer is a mask, which `masks_in` turns into arrays."""
        return self._target.kind == "mask"

    @cached_property
    def task(self) -> Task:
        """The task that the network was trained for; needs PyTorch."""
        from deepseek.inference.backends.torch import build_task

        return build_task(self._preparation, self.bundle.read("task.json"))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a table must have to be answered."""
        return self._preparation.columns

    @property
    def preparation(self) -> Preparation:
        """The fitted preparation: from a table to what the network is given."""
        return self._preparation

    @property
    def selection(self) -> Selection:
        """Which of a detector's answers are given; without meaning for other models."""
        return self._selection

    @property
    def target(self) -> TargetSpec:
        """What is predicted."""
        return self._target

    @property
    def separator(self) -> str:
        """What stands between the labels of one text."""
        target = self._preparation.target
        return target.separator if target else ","

    def predict(self, table: Any, *, batch_rows: int = BATCH_ROWS, tiles: Any = None) -> Any:
        """Answer every row of a table.

        Args:
            table: A pandas, polars or Arrow table, a mapping of columns, one row as a mapping or a pandas Series, a list of rows as
                mappings, a matrix where training had one, or a path; more columns than needed may be there, in any order. For a model
                whose only input is an image or a text also the files themselves: one, a list, a pattern, a folder; the answers then have
                the column `file`. For a forecast the steps of one or several series, at least as many as the model looks back on, and
                behind them, with targets missing, those whose inputs are known in advance.
            batch_rows: How many rows go through the network at once, at most: fewer of photographs, volumes and long texts.
            tiles: For a detector, the size in pixels of overlapping tiles that large pictures are cut into, or a mapping with `size` and
                `overlap`; not cut where not given.

        Returns:
            The answers in the rows' order, as the kind of table that was given: the column `prediction`, and a `probability_CLASS` column
            for each class where the task has classes. A segmentation has `prediction` alone, which `deepseek.masks_in` turns into arrays. A
            forecast has a row for each series and step ahead: its time, the columns that tell series apart, `step`, `prediction`, and a
            `quantile_LEVEL` column for each level where the task has levels.

        Raises:
            ColumnError: A column is missing.
            DataError: A value cannot be what its column is; the message names column, row and value.
        """
        source = self.open(table)
        answers = list(self.stream(source, batch_rows=batch_rows, tiles=tiles)) or self._no_answers(source.schema())
        made = pa.Table.from_batches(answers)
        return in_kind(table, made) if self._forecasts(source) else like(table, made, self.columns)

    def predict_proba(self, table: Any) -> np.ndarray:
        """Return every class's (or label's) probability, float32 `[rows, classes]`, in the order of `classes`.

        Args:
            table: Rows, as `predict` takes them.

        Raises:
            InputError: The model predicts numbers.
        """
        if not self.classes:
            raise InputError(f"the task {self._task_name!r} has no classes", hint="ask for its numbers with predict")
        require_plain(self._target.kind, "a table of probabilities", hint="ask for its answers with predict")
        source = self.open(table)
        columns = [f"probability_{name}" for name in self._target.classes]
        parts = [np.column_stack([batch[name] for name in columns]) for batch in self.stream(source)]
        return np.concatenate(parts) if parts else np.empty((0, len(columns)), np.float32)

    def evaluate(self, table: Any) -> dict[str, Any]:
        """Measure the model on rows that have the target.

        Args:
            table: A path or a table; of a language model also the text files themselves.

        Returns:
            `metrics` by name (of an exported bundle all but the loss, as its graph returns answers only), `rows` measured, `set_aside`: how
            many rows have no target, are of a class that training did not know, or hold an image that cannot be read, by reason, and
            `warnings`: columns many of whose values training did not know.

        Raises:
            ColumnError: A column is missing.
            DataError: No row can be measured.
        """
        from deepseek.inference.evaluation import measure_source, measure_windows

        # of a language model the text itself is what is predicted: a file of it is a row
        source = self.open(table) if self._target.kind == "tokens" else open_source(table)
        if isinstance(self._preparation, WindowPreparation):
            return measure_windows(self.backend, self.task, self._preparation, source=source)
        self.require_columns(source.schema().names)
        return measure_source(self.backend, self.task, self._preparation, source=source)

    def open(self, table: Any) -> Source:
        """Return the source of rows to be answered, for `stream`: of whatever `predict` takes."""
        return open_rows(table, self.schema, self.columns)

    def stream(
        self, source: Source, *, batch_rows: int = BATCH_ROWS, unknown: Unknown | None = None, tiles: Any = None
    ) -> Iterator[pa.RecordBatch]:
        """Answer a source batch by batch, in bounded memory.

        Args:
            source: Where the rows come from.
            batch_rows: How many rows go through the network at once, at most: fewer of photographs, volumes and long texts.
            unknown: Is told of the categories that training did not know.
            tiles: As `predict` takes them.
        """
        if tiles is not None:
            from deepseek.inference.tiling import stream_tiled, tiles_of

            yield from stream_tiled(self, source, tiles_of(tiles))
            return
        source = source.as_text(self._preparation.text_columns)
        preparation = self._preparation.started()
        if unknown is not None:
            preparation = preparation.watched(unknown)
        if self._forecasts(source):
            yield from self._forecast(source, preparation, batch_rows)
            return
        self.require_columns(source.schema().names)
        rows = rooted_batches(source.read(columns=self.columns, batch_rows=batch_rows), source.root)
        yield from with_names(source, self._answers(preparation, rows))

    def _answers(self, preparation: Preparation, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Answer batches that follow each other; an error about a row says which of all rows it is."""
        before = 0
        for batch in batches:
            with rows_counted(before):
                answers = self._answer(preparation, batch)
            yield from answers.to_batches()
            before += batch.num_rows

    def _forecasts(self, source: Source) -> bool:
        """Whether the rows are single steps of series, of which the next are asked for."""
        return isinstance(self._preparation, WindowPreparation) and is_long(source.schema(), self._preparation.rules)

    def _forecast(self, source: Source, preparation: Preparation, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Answer the steps that follow each series of a long table, which is held in memory."""
        assert isinstance(preparation, WindowPreparation)
        latest = LatestWindows(long_table(source, preparation.rules), preparation)
        for said in latest.warnings:
            progress.warn(said)
        for start in range(0, len(latest), batch_rows):
            stop = min(start + batch_rows, len(latest))
            yield latest.answers(self._answer(preparation, latest.rows(start, stop)), start, stop)

    def answer(self, batch: pa.RecordBatch) -> pa.Table:
        """Answer one Arrow batch that has at least the columns needed; it is a table of its own."""
        return self._answer(self._preparation, batch)

    def embed(self, table: Any, *, normalized: bool = False) -> Any:
        """Return what the network makes of every row before any decision: the column `embedding`, a list of float32 a row.

        Args:
            table: Rows, as `predict` takes them.
            normalized: Whether every vector is brought to length 1.

        Raises:
            BundleError: What was opened is an export, whose graph has no features.
            InputError: The model forecasts: what its network makes of a window is no vector of a row.
        """
        from deepseek.inference.embedding import save_embedder

        with TemporaryDirectory() as scratch:
            made = Predictor.load(save_embedder(Path(scratch) / "bundle", self.opened, normalized=normalized))
            return made.predict(table)

    def generate(self, prompt: str | Sequence[str] = "", **sampling: Any) -> Any:
        """Go on from a text, with a language model.

        Args:
            prompt: The text, or several; empty for a text's beginning.
            sampling: How tokens are chosen: `tokens`, `temperature`, `top_k`, `top_p`, `beams`, `seed` (see `Sampling`). Several texts are
                drawn for with seeds of their own.

        Returns:
            What comes behind the text, without it; a list where several were given.

        Raises:
            InputError: The model is no language model, does not run in PyTorch, or a number is out of range.
        """
        from deepseek.inference.generation import write_all

        written = write_all(self.backend, self._preparation, [prompt] if isinstance(prompt, str) else list(prompt), **sampling)
        return written[0] if isinstance(prompt, str) else written

    def decoded(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Return what the network says of one Arrow batch: probabilities, or values in standard deviations from the training mean."""
        return self._run(self._preparation.apply(batch))

    def table(self, decoded: Mapping[str, np.ndarray]) -> pa.Table:
        """Return what `decoded` gave as `answer` has it."""
        if self._levels is not None:
            return forecast_table(self._target, decoded, self._levels)
        if self._task_name not in TASK_OF_KIND.values():
            return self.task.answer(decoded)
        return answer_table(self._target, decoded, selection=self._selection)

    def arrays(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Return what the network is given for a batch: the host's part of the preparation, texts padded to the longest."""
        return as_arrays(self._preparation.apply(batch))

    def _answer(self, preparation: Preparation, batch: pa.RecordBatch) -> pa.Table:
        self._require_answers()
        if self._target.kind == "mask":
            return answer_masks(self.backend, preparation, batch)
        if self._target.kind == "boxes":
            starts = range(0, max(batch.num_rows, 1), _PICTURES_AT_ONCE)
            return pa.concat_tables([self._objects(preparation, batch, start) for start in starts])
        answers = self.table(self._run(preparation.apply(batch)))
        return answers if preparation.target is None else preparation.target.placed(answers, batch)

    def _require_answers(self) -> None:
        if self._target.kind == "tokens":
            raise InputError("a language model has no answer to a row", hint="let it write: deepseek generate RUN --prompt TEXT")

    def _objects(self, preparation: Preparation, rows: pa.RecordBatch, start: int) -> pa.Table:
        """Return the objects of a few pictures from a row on, where they are in each as it was given."""
        assert preparation.target is not None
        batch = rows.slice(start, _PICTURES_AT_ONCE)
        with rows_counted(start, of=OF_BATCH):
            return self.table({**self._run(preparation.apply(batch)), **preparation.target.beside_answers(batch)})

    def _run(self, arrays: Mapping[str, Array]) -> dict[str, np.ndarray]:
        """Return the decoded answers of prepared rows, in their order."""
        pieces = [(rows, self.backend.run(inputs)) for rows, inputs in in_array_pieces(arrays)]
        chosen = [rows for rows, _ in pieces if rows is not None]
        if not chosen:
            return pieces[0][1]
        places = np.argsort(np.concatenate(chosen))
        return {name: rows_together([decoded[name] for _, decoded in pieces])[places] for name in pieces[0][1]}

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


def load(path: str | PathLike[str], *, backend: Spec = AUTO, plugins: Sequence[str] = ()) -> Predictor:
    """Open a run or a bundle for predicting; short for `Predictor.load`.

    Args:
        path: The folder of a bundle, of a run, or of a run's name (then its newest run); or what `train` or `run` returned.
        backend: What runs the network; see `Predictor.load`.
        plugins: The files or modules of the plugins that the bundle needs.
    """
    return Predictor.load(path, backend=backend, plugins=plugins)
