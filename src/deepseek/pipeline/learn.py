"""Learning from a stream: rows in the order of time, each answered before it is learned from; a bundle at the end, and on the way."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from deepseek import progress as display
from deepseek.artifacts import CACHE, Bundle, RunFolder, StageCache, sha256_json, write_json, write_text
from deepseek.data.batch import Batch, in_pieces
from deepseek.data.landing import LandedTable, land
from deepseek.data.preparation import Aside, Preparation
from deepseek.data.sources import open_source
from deepseek.data.timestamps import read_timestamps
from deepseek.errors import DataError, InputError, UnknownNameError
from deepseek.inference import build_model
from deepseek.inference.backends.torch import TorchBackend
from deepseek.inference.reading import read_preparation
from deepseek.inference.saving import documents_of, write_model
from deepseek.learning import OnlineLearner, Progress, progressive_validation
from deepseek.monitoring.outcomes import Target
from deepseek.monitoring.reference import REFERENCE_FILE, make_reference, sketch_inputs
from deepseek.pipeline.choices import choose
from deepseek.pipeline.closed_loop.retraining import write_table
from deepseek.pipeline.dataset import make_dataset
from deepseek.pipeline.recipes import open_recipe
from deepseek.pipeline.sources import source_of
from deepseek.recipe import Recipe
from deepseek.recipe.load import ORIGIN
from deepseek.recipe.sections import LearnSection
from deepseek.registry import family
from deepseek.tasks.base import TARGET
from deepseek.tasks.model import TaskModel
from deepseek.training.state import kept_generators, seed_generators

READ_ROWS = 8_192
PASSES = 5
"""Passes over the last rows where a model begins anew."""
PROGRESS_FILE = "learn.json"


def learn(
    recipe: str | PathLike[str] | Mapping[str, Any] | Recipe,
    sources: Sequence[Any] = (),
    *,
    overrides: Sequence[str] = (),
    out: str | PathLike[str] = "runs",
) -> dict[str, Any]:
    """Answer each row of a stream and learn from it afterwards, in bounded memory; see `deepseek.learning.progressive_validation`.

    Args:
        recipe: A recipe (file, mapping), whose `learn` section says how; or a run, whose model learns on from where it is.
        sources: Tables with the target, the oldest first, each in the order of its rows unless `learn.time` names a column; for a recipe
            its `data.source` where not given.
        overrides: Keys of the recipe, each `PATH=VALUE`.
        out: The folder that holds the runs.

    Returns:
        `run` and `bundle`; `rows`; `accuracy`, each answer given before its row was learned from; `no_change`, what answering with the
        previous row's truth reaches; `changes` by detector, `curve`, and `set_aside`, by reason.

    Raises:
        InputError: The task has no classes, or a run is given without rows.
        DataError: The rows cannot be used.
    """
    began = time.perf_counter()
    given, checked = open_recipe(recipe, overrides)
    if given is not None and not sources:
        raise InputError(f"{given.path} is a run, and no rows are given to learn from", hint="deepseek learn RUN FILE…")
    section = checked.learn or LearnSection()
    cache, folder = StageCache(Path(out) / CACHE), RunFolder.create(Path(out), checked.name)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="deepseek-stream-") as work, kept_generators(torch.device("cpu")):
        seed_generators(checked.seed, torch.device("cpu"))
        bundle = Bundle.open(given.path) if given is not None else None
        texts = read_preparation(bundle).text_columns if bundle is not None else ()
        rows = rows_in_order(checked, list(sources) or [checked.data.source], texts=texts, time=section.time, work=Path(work))
        start = _go_on(bundle) if bundle is not None else _begin(checked, section, rows, cache, Path(work))
        student = Student(start, section, seed=checked.seed)
        saver = _Saver(folder, checked, start, student, section)
        saver.write_recipe()
        stream = saver.watched(batches_of(start.preparation, chain(start.first, rows), section.batch_rows, counts=counts))
        names = names_of([str(spec["type"]) for spec in section.detectors])
        detectors = {name: family("detector").build(spec) for name, spec in zip(names, section.detectors, strict=True)}
        acted = next(iter(detectors), None) if section.at_change != "nothing" else None
        found = progressive_validation(student, stream, detectors=detectors, forget_at=acted)
    return saver.finish(found, counts, time.perf_counter() - began)


@dataclass
class Start:
    """What learning begins with.

    Attributes:
        preparation: The fitted preparation.
        model: The network with its task.
        specs: The specs of `model` and `task`.
        first: Rows that were read already and come first.
        plugins: What the bundle needs.
    """

    preparation: Preparation
    model: TaskModel
    specs: Mapping[str, Mapping[str, Any]]
    first: Sequence[pa.RecordBatch] = ()
    plugins: Mapping[str, str] = field(default_factory=dict)


class Student(OnlineLearner):
    """Learns online, keeps the last rows with the answers that it gave, and may begin anew at a change.

    Args:
        start: What it begins with.
        section: How it learns.
        seed: Of what is rehearsed, and of new weights.

    Attributes:
        recent: The last batches with the decoded answers that were given before they were learned.
    """

    def __init__(self, start: Start, section: LearnSection, *, seed: int) -> None:
        super().__init__(start.model, optimizer=section.optimizer, replay=section.replay, seed=seed)
        self._start, self._anew, self._seed = start, section.at_change == "retrain", seed
        self._due = 0  # batches until it begins anew
        self.recent: deque[tuple[Batch, dict[str, Tensor]]] = deque(maxlen=max(section.recent // section.batch_rows, 1))

    def answer(self, batch: Batch) -> dict[str, Tensor]:
        """Answer, and keep what was answered."""
        decoded = super().answer(batch)
        self.recent.append((batch, decoded))
        return decoded

    def learn(self, batch: Batch) -> None:
        """Take one step; where it is to begin anew and enough rows have come since the change, do that."""
        super().learn(batch)
        if self._due:
            self._due -= 1
            if not self._due:
                self._restart()

    def forget(self) -> None:
        """Drop what is rehearsed and the optimizer's memory; where it is to begin anew, do so once there are rows from after the change.

        An alarm comes when few of them are there: a model that began anew at once would learn the old world once more.
        """
        super().forget()
        if self._anew and not self._due:
            self._due = self.recent.maxlen or 1

    def _restart(self) -> None:
        self._seed += 1
        seed_generators(self._seed, torch.device("cpu"))
        fresh = build_model(self._start.preparation, self._start.specs["model"], self._start.specs["task"])
        self.model.load_state_dict(fresh.state_dict())
        super().forget()  # an optimizer's memory is of the weights that it has moved
        for _ in range(PASSES):
            for batch, _ in self.recent:
                super().learn(batch)


def rows_in_order(
    recipe: Recipe, sources: Sequence[Any], *, texts: Sequence[str], time: str | None, work: Path
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of sources through the recipe's checks, by a column of times where one is named, else as they come.

    Args:
        recipe: The recipe; rows that its checks set aside are counted in a warning.
        sources: The oldest first.
        texts: Columns to be read as text.
        time: The column, or nothing.
        work: A folder for the tables meanwhile.
    """
    tables = []
    for place, spec in enumerate(sources):
        opened = (source_of(recipe, spec) if spec is recipe.data.source else open_source(spec)).as_text(texts)
        checks = [family("check").build(check) for check in recipe.data.checks]
        for check in checks:
            check.folder = recipe.folder
        table = land(opened, checks, work / str(place), max_rejected=recipe.data.max_rejected)
        if lost := table.counts.read - table.counts.kept:
            display.warn(f"{lost} of {table.counts.read} rows of the stream were set aside by checks")
        tables.append(table)
    if time is None:
        return (batch for table in tables for batch in table.batches(batch_rows=READ_ROWS))
    return _by_time(tables, time)


def _by_time(tables: Sequence[LandedTable], name: str) -> Iterator[pa.RecordBatch]:
    for table in tables:
        if name not in table.schema.names:
            raise UnknownNameError("column of times", name, table.schema.names)
    whole = pa.concat_tables([pa.Table.from_batches(table.batches(), table.schema) for table in tables], promote_options="permissive")
    column = whole.column(name)
    if column.null_count:
        raise DataError(f"{column.null_count:,} rows have no {name!r}", hint="set them aside with a check: {type: required, column: …}")
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        moments = column.to_numpy()
    else:
        read = pa.chunked_array([read_timestamps(part) for part in column.chunks], pa.timestamp("us"))
        if read.null_count:
            raise DataError(f"{read.null_count:,} values of {name!r} are no points in time", hint="write times as 2025-04-03 14:30:00")
        moments = read.to_numpy()
    order = np.argsort(moments, kind="stable")
    for start in range(0, len(order), READ_ROWS):
        yield from whole.take(pa.array(order[start : start + READ_ROWS])).combine_chunks().to_batches()


def batches_of(
    preparation: Preparation, rows: Iterable[pa.RecordBatch], size: int, *, counts: Counter[str]
) -> Iterator[tuple[pa.RecordBatch, Batch]]:
    """Yield rows and what the network is given of them, so many at a time; those that cannot be used are left out and counted.

    Args:
        preparation: The fitted preparation.
        rows: The stream.
        size: The most rows of a batch.
        counts: Is told how many were left out, by reason.
    """
    target = preparation.target
    assert target is not None, "the stream has a target"
    aside = Aside()
    for given, _ in preparation.other_rows(iter(rows), aside=aside):
        unseen = target.unseen(given)
        counts["target class unseen at the beginning"] += int(unseen.sum())
        known = given.filter(pa.array(~unseen)) if unseen.any() else given
        bad = preparation.unreadable(known)
        counts["input cannot be read"] += int(bad.sum())
        known = known.filter(pa.array(~bad)) if bad.any() else known
        for start in range(0, known.num_rows, size):
            part = known.slice(start, size)
            targets = target.apply(part)
            for chosen, inputs in in_pieces(preparation.arrays(part)):
                places = slice(None) if chosen is None else chosen
                piece = part if chosen is None else part.take(pa.array(chosen))
                yield piece, Batch(inputs, {name: torch.from_numpy(array[places]) for name, array in targets.items()})
    counts.update(aside.counts)


def _go_on(bundle: Bundle) -> Start:
    preparation = read_preparation(bundle)
    specs = {"model": bundle.read("model.json"), "task": bundle.read("task.json")}
    return Start(preparation, TorchBackend(bundle).model, specs, plugins=bundle.manifest["plugins"])


def _begin(recipe: Recipe, section: LearnSection, rows: Iterator[pa.RecordBatch], cache: StageCache, work: Path) -> Start:
    """Fit the transforms on the first rows, and build a network for them; they then come again as the stream's first."""
    first, count = [], 0
    for batch in rows:
        first.append(batch)
        count += batch.num_rows
        if count >= section.warmup:
            break
    if not first:
        raise DataError("the stream has no row", hint="give rows with their target")
    table = pa.Table.from_batches(first)
    path = work / "warmup.arrow"
    write_table(path, table.slice(0, section.warmup))
    why = "the stream's first rows"
    source = {"type": "arrow", "path": str(path)}
    split = {"train": 1, "validation": 0, "test": 0}
    beginning = recipe.with_decisions(
        {"data.source": (source, why), "data.test": (None, why), "data.checks": ([], why), "data.split": (split, why)}
    )
    dataset = make_dataset(beginning, cache)
    preparation = dataset.preparation()
    if preparation.target is None:
        raise InputError("there is nothing to predict", hint="name the column under data.target")
    decided = beginning.with_decisions(dataset.reasons)
    choices = choose(
        decided, preparation.inputs, preparation.target.spec, rows=section.warmup, columns=len(preparation.columns), validated=False
    )
    resolved = decided.with_decisions(choices)
    specs: dict[str, Any] = {"model": resolved.model, "task": resolved.task}
    return Start(preparation, build_model(preparation, specs["model"], specs["task"]), specs, first)


class _Saver:
    """Writes the run's folder: the recipe at once, the bundle every so many rows and at the end."""

    def __init__(self, folder: RunFolder, recipe: Recipe, start: Start, student: Student, section: LearnSection) -> None:
        self._folder, self._recipe, self._start = folder, recipe, start
        self._student, self._every, self._rows = student, section.save_every, 0
        self._recent: deque[pa.RecordBatch] = deque(maxlen=student.recent.maxlen)

    def write_recipe(self) -> None:
        write_text(self._folder.recipe, self._recipe.to_short_yaml())
        write_json(self._folder.path / ORIGIN, {"recipe_folder": str(self._recipe.folder.absolute())})

    def watched(self, batches: Iterator[tuple[pa.RecordBatch, Batch]]) -> Iterator[Batch]:
        """Yield batches; when the next one is asked for, the one before has been learned."""
        due = self._every
        for rows, batch in batches:
            self._recent.append(rows)
            self._rows += len(batch)
            yield batch
            if due is not None and self._every is not None and self._rows >= due:
                self._write_bundle({})
                due += self._every

    def finish(self, found: Progress, counts: Mapping[str, int], seconds: float) -> dict[str, Any]:
        reached = {"accuracy": found.accuracy, "no_change": found.no_change}
        self._write_bundle({"stream": reached})
        aside = {reason: count for reason, count in counts.items() if count}
        result = {**found.to_json(), "set_aside": aside, "seconds": seconds}
        write_json(self._folder.path / PROGRESS_FILE, result)
        outcome = {
            "metrics": {"stream": reached},
            "seconds": seconds,
            "warnings": [f"{count} rows: {reason}" for reason, count in aside.items()],
        }
        write_json(self._folder.metrics, outcome)
        return {"run": str(self._folder.path), "bundle": str(self._folder.bundle), **result}

    def _write_bundle(self, metrics: Mapping[str, Any]) -> None:
        preparation, specs, model = self._start.preparation, self._start.specs, self._student.model
        documents = documents_of(preparation, model=dict(specs["model"]), task=dict(specs["task"]), metrics=metrics)
        whole = self._folder.path / f"bundle.{sha256_json(self._rows)[:8]}"
        shutil.rmtree(whole, ignore_errors=True)
        write_model(whole, model, {**documents, REFERENCE_FILE: self._reference()}, plugins=self._start.plugins)
        shutil.rmtree(self._folder.bundle, ignore_errors=True)
        whole.rename(self._folder.bundle)

    def _reference(self) -> dict[str, Any]:
        """Return what the last rows looked like, and how they were answered before they were learned."""
        preparation = self._start.preparation
        assert preparation.target is not None, "the stream has a target"
        spec = preparation.target.spec
        target = Target(spec.kind, tuple(spec.columns), tuple(spec.classes), preparation.target.separator)
        table = pa.Table.from_batches(self._recent)
        wanted = [one for one in preparation.schema.inputs if one.name in preparation.columns]
        pairs = list(self._student.recent)
        decoded = {name: torch.cat([answers[name] for _, answers in pairs]) for name in pairs[0][1]}
        truth = torch.cat([batch.targets[TARGET] for batch, _ in pairs]).numpy().astype(np.int64)
        labels = [spec.classes[place] for place in truth.tolist()]
        answers = self._student.model.task.answer(decoded)
        return make_reference(sketch_inputs(table, wanted), target, answers, labels=labels, spellings=preparation.spellings)


def names_of(types: Sequence[str]) -> list[str]:
    """Return a name of its own for each of several things: its type, and a number where that comes again."""
    return [name if types.index(name) == place else f"{name}_{types[: place + 1].count(name)}" for place, name in enumerate(types)]
