"""Ways to keep a model as good as it was, or not: what a replay compares."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.inference import Predictor
from deepseek.monitoring import Watcher
from deepseek.pipeline.closed_loop.champion import SPLIT, Champion
from deepseek.pipeline.closed_loop.gate import truth_of
from deepseek.pipeline.closed_loop.machine import Loop
from deepseek.pipeline.closed_loop.memory_deployment import MemoryDeployment
from deepseek.pipeline.closed_loop.policy import share_out
from deepseek.pipeline.closed_loop.retraining import Plan, begin_candidate, finish_candidate


class Contestant(Protocol):
    """A way to keep a model as good as it was, or not."""

    def answer(self, rows: pa.Table, *, at: np.ndarray) -> pa.Table:
        """Answer rows that came at given seconds."""

    def learn(self, rows: pa.Table, *, first: int, at: float) -> None:
        """Take in rows whose labels have come: the first one's number, and the time."""


class Never:
    """Answers with the same model for ever.

    Args:
        run: The run.
    """

    def __init__(self, run: Path) -> None:
        self._predictor = Predictor.load(run, backend="torch")

    def answer(self, rows: pa.Table, *, at: np.ndarray) -> pa.Table:
        """Answer."""
        answers: pa.Table = self._predictor.predict(rows)
        return answers

    def learn(self, rows: pa.Table, *, first: int, at: float) -> None:
        """Learn nothing."""


class Periodic:
    """Trains anew every so many rows, on the old rows and the labelled ones, and deploys what comes of it, better or not.

    Args:
        run: The run, in a folder that new ones may be made in.
        every: Labelled rows between two trainings.
    """

    def __init__(self, run: Path, *, every: int) -> None:
        self._champion = Champion.open(run)
        self._every, self._next = every, every
        self._rows: list[pa.RecordBatch] = []
        self._predictor = Predictor.load(run, backend="torch")
        self._seen = 0
        self.trainings = 0

    def answer(self, rows: pa.Table, *, at: np.ndarray) -> pa.Table:
        """Answer."""
        answers: pa.Table = self._predictor.predict(rows)
        return answers

    def learn(self, rows: pa.Table, *, first: int, at: float) -> None:
        """Train, where it is time."""
        preparation = self._champion.preparation
        names = [*preparation.columns, *preparation.schema.target]
        self._rows += [preparation.typed(batch) for batch in rows.select(names).combine_chunks().to_batches()]
        self._seen += rows.num_rows
        if self._seen < self._next:
            return
        self._next += self._every
        table = pa.Table.from_batches(self._rows).slice(max(self._seen - self._champion.then.recent.max_rows, 0))
        parts = share_out(table.num_rows, first=0, fresh=0, holdout=0.15, validation=0.15)
        if parts is None:
            return
        self.trainings += 1
        plan = Plan(self._champion, table.append_column(SPLIT, pa.array(parts.names)), 1.0, self.trainings)
        folder = begin_candidate(plan)
        with progress.hushed():
            finish_candidate(plan, folder)
        self._predictor = Predictor.load(folder.path, backend="torch")


class Looped:
    """Watches its answers and acts on alarms, as the run's recipe says.

    Args:
        run: The run, in a folder that new ones may be made in.
        overrides: Keys of the recipe's section `monitor`, each `PATH=VALUE`.

    Attributes:
        loop: The loop.
        rows: By the number of a line of its journal, how many rows had been answered by then.
    """

    def __init__(self, run: Path, *, overrides: tuple[str, ...] = ()) -> None:
        self._now = 0.0
        champion = Champion.open(run, overrides)
        self.loop = Loop(run, deployer=self._deploy, overrides=overrides, clock=self._clock)
        self.rows: dict[int, int] = {}
        self._watcher = self._watch(champion)
        self._first, self._count = 0, 0

    def answer(self, rows: pa.Table, *, at: np.ndarray) -> pa.Table:
        """Answer, and log what was answered."""
        self._now = float(at[-1])
        answers = self._deployment.answer(rows, first=self._count)
        ids = [str(number) for number in range(self._count, self._count + rows.num_rows)]
        self._watcher.observe(rows, answers, ids=ids, at=self._now)
        self._count += rows.num_rows
        return answers

    def learn(self, rows: pa.Table, *, first: int, at: float) -> None:
        """Log labels, and let the loop do what is to be done; rows that a model before this one answered count no more."""
        self._now = at
        self._deployment.learn(rows, first=first)
        known = rows.slice(max(self._first - first, 0))
        if known.num_rows:
            start = max(first, self._first)
            ids = [str(number) for number in range(start, start + known.num_rows)]
            self._watcher.label(ids, truth_of(known, self.loop.champion.reference.target), at=at)
        before = self.loop.champion.name
        with progress.hushed():
            events = self.loop.run()
        self.rows |= {event.seq: self._count for event in events}
        if self.loop.champion.name != before:
            self._watcher.store.close()
            self._watcher = self._watch(self.loop.champion)
            self._first = self._count

    def close(self) -> None:
        """Close the log."""
        self._watcher.store.close()

    def _watch(self, champion: Champion) -> Watcher:
        return Watcher(champion.bundle, champion.store(), settings=champion.settings, clock=self._clock)

    def _deploy(self, champion: Champion) -> MemoryDeployment:
        self._deployment = MemoryDeployment(champion.path, metric=champion.metric, alpha=champion.then.alpha)
        return self._deployment

    def _clock(self) -> float:
        return self._now
