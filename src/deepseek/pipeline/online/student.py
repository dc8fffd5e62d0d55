"""What learns from a stream, what it begins with, and how that is saved and taken up again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from deepseek import progress
from deepseek.artifacts import Bundle, StageCache
from deepseek.data.batch import Batch
from deepseek.data.preparation import Preparation
from deepseek.errors import DataError, InputError
from deepseek.inference import build_model
from deepseek.inference.backends.torch import TorchBackend
from deepseek.inference.reading import read_preparation
from deepseek.learning import OnlineLearner
from deepseek.learning.online import packed, unpacked
from deepseek.pipeline.choosing.choices import choose
from deepseek.pipeline.closed_loop.retraining import write_table
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.recipe import Recipe
from deepseek.recipe.sections import LearnSection
from deepseek.registry import family
from deepseek.statistics.detectors import Detector
from deepseek.tasks.model import TaskModel
from deepseek.training.checkpoints.files import Tensors
from deepseek.training.state import Json, seed_generators

PASSES = 5
"""Passes over the last rows where a model begins anew."""


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
        if start.model.task.resample is not None:
            raise InputError(
                f"task.resample is {start.model.task.resample}, and the rows of a stream come once, as they come",
                hint="weigh classes instead: task.class_weights",
            )
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

    def state(self) -> tuple[Tensors, Json]:
        """Return what the learner holds, the last batches with their answers, and whether it is about to begin anew."""
        tensors, state = super().state()
        answered: dict[str, Tensor] = {}
        for place, (batch, answers) in enumerate(self.recent):
            answered |= packed(batch, str(place)) | {f"{place}/answers/{name}": tensor for name, tensor in answers.items()}
        return {**tensors, "recent": answered}, {**state, "due": self._due, "seed": self._seed, "recent": len(self.recent)}

    def load_state(self, tensors: Tensors, state: Json) -> None:
        """Go on from what `state` returned."""
        super().load_state(tensors, state)
        self._due, self._seed = state["due"], state["seed"]
        self.recent.clear()
        for place in range(state["recent"]):
            prefix = f"{place}/answers/"
            answers = {name.removeprefix(prefix): tensor for name, tensor in tensors["recent"].items() if name.startswith(prefix)}
            self.recent.append((unpacked(tensors["recent"], str(place)), answers))


def go_on(bundle: Bundle) -> Start:
    """Return what learns on from a bundle: its weights and its transforms."""
    preparation = read_preparation(bundle)
    specs = {"model": bundle.read("model.json"), "task": bundle.read("task.json")}
    return Start(preparation, TorchBackend(bundle).model, specs, plugins=bundle.manifest["plugins"])


def begin(recipe: Recipe, section: LearnSection, rows: Iterator[pa.RecordBatch], *, cache: StageCache, work: Path) -> Start:
    """Fit the transforms on the first rows, and build a network for them; they then come again as the stream's first.

    Args:
        recipe: The recipe.
        section: How it learns.
        rows: The stream.
        cache: Where stages are kept.
        work: A folder for the rows meanwhile.

    Raises:
        DataError: The stream has no row.
        InputError: There is nothing to predict.
    """
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
        {
            "data.source": (source, why),
            "data.test": (None, why),
            "data.checks": ([], why),
            "data.split": (split, why),
            "data.suspects": (None, why),
        }
    )
    dataset = make_dataset(beginning, cache)
    preparation = dataset.preparation()
    if preparation.target is None:
        raise InputError("there is nothing to predict", hint="name the column under data.target")
    decided = beginning.with_decisions(dataset.reasons)
    choices = choose(
        decided,
        preparation.inputs,
        preparation.target.spec,
        rows=min(count, section.warmup),
        columns=len(preparation.columns),
        validated=False,
    )
    resolved = decided.with_decisions(choices)
    specs: dict[str, Any] = {"model": resolved.model, "task": resolved.task}
    return Start(preparation, build_model(preparation, specs["model"], specs["task"]), specs, first)


def tell_short_warmup(rows: int, section: LearnSection, *, what: str) -> None:
    """Warn where a stream has ended, or fallen silent, before the warm-up had its rows: the transforms are then fitted on all of it.

    Args:
        rows: How many there were.
        section: How it learns.
        what: What is counted: `rows`, `messages`.
    """
    if rows < section.warmup:
        progress.warn(
            f"learn.warmup is {section.warmup:,}, and the stream has had {rows:,} {what}: the transforms are fitted on all of them, "
            "and so know every row before it is answered"
        )


def watched_errors(section: LearnSection) -> tuple[dict[str, Detector], str | None]:
    """Return the detectors of a recipe by name, and the one whose alarms are acted on."""
    types = [str(spec["type"]) for spec in section.detectors]
    detectors = {name: family("detector").build(spec) for name, spec in zip(names_of(types), section.detectors, strict=True)}
    return detectors, next(iter(detectors), None) if section.at_change != "nothing" else None


def names_of(types: Sequence[str]) -> list[str]:
    """Return a name of its own for each of several things: its type, and a number where that comes again."""
    return [name if types.index(name) == place else f"{name}_{types[: place + 1].count(name)}" for place, name in enumerate(types)]
