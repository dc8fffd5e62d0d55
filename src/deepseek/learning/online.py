"""Learning from a stream: each row is answered first and learned from afterwards, in bounded memory.

Legend of shapes: `b` rows of a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from deepseek.data.batch import Batch
from deepseek.errors import InputError
from deepseek.registry import Spec, family
from deepseek.statistics.detectors import Detector
from deepseek.tasks.base import TARGET
from deepseek.tasks.model import TaskModel

if TYPE_CHECKING:
    from deepseek.optim.optimizers import OptimizerSpec

POINTS = 100
RECENT = 100
"""Rows by which it is told whether errors have become more or fewer."""


class OnlineLearner:
    """A network that learns from each batch as it comes, and may rehearse what came lately.

    One step on the new rows alone follows every whim of the stream; a reservoir of the latest batches, replayed beside them, steadies it at
    a bounded cost (Lin, "Self-improving reactive agents based on reinforcement learning, planning and teaching", Machine Learning 1992).

    Args:
        model: The network with its task, fresh or trained.
        optimizer: The spec of the optimizer.
        replay: Batches kept for rehearsal, 0 or more; each new batch is learned together with one of them.
        seed: Says which is rehearsed.
    """

    def __init__(self, model: TaskModel, *, optimizer: Spec = "adam", replay: int = 0, seed: int = 0) -> None:
        if replay < 0:
            raise InputError(f"replay is {replay}", hint="0 or more batches")
        self.model = model
        self._spec: OptimizerSpec = family("optimizer").build(optimizer)
        self._optimizer = self._fresh()
        self._kept: deque[Batch] = deque(maxlen=replay)
        self._draw = np.random.default_rng(seed)

    @torch.inference_mode()
    def answer(self, batch: Batch) -> dict[str, Tensor]:
        """Return the task's decoded answers, without learning anything."""
        self.model.eval()
        return self.model.predict(batch.inputs)

    def learn(self, batch: Batch) -> None:
        """Take one step on the batch and, where there is something to rehearse, one on an earlier one."""
        self.model.train()
        self._step(batch)
        if self._kept:
            self._step(self._kept[int(self._draw.integers(len(self._kept)))])
        if self._kept.maxlen:
            self._kept.append(batch)

    def forget(self) -> None:
        """Drop what is rehearsed and the optimizer's memory: they are of the time before a change."""
        self._kept.clear()
        self._optimizer = self._fresh()

    def _fresh(self) -> torch.optim.Optimizer:
        return self._spec.build([{"params": list(self.model.parameters())}])

    def _step(self, batch: Batch) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        numerator, denominator = self.model.task.loss(self.model(batch.inputs), batch)
        torch.autograd.backward(numerator / denominator)
        self._optimizer.step()


@dataclass(frozen=True)
class Progress:
    """What progressive validation found.

    Attributes:
        rows: Rows of the stream.
        accuracy: Share of right answers, each given before its row was learned from.
        no_change: Share that answering with the previous row's truth gets right: what a stream's own inertia is worth.
        curve: Up to 100 points (rows so far, accuracy since the last point, no-change since the last point).
        changes: By detector, the rows at which it saw the error rate change.
    """

    rows: int
    accuracy: float
    no_change: float
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    changes: dict[str, list[int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "rows": self.rows,
            "accuracy": self.accuracy,
            "no_change": self.no_change,
            "curve": [list(point) for point in self.curve],
            "changes": self.changes,
        }


def progressive_validation(
    learner: OnlineLearner,
    batches: Iterable[Batch],
    *,
    detectors: Mapping[str, Detector] | None = None,
    forget_at: str | None = None,
    point_rows: int = 500,
) -> Progress:
    """Answer each batch of a stream, then learn from it: every row is test and training row, in that order.

    Blum, Kalai and Langford, "Beating the hold-out: bounds for k-fold and progressive cross-validation" (COLT 1999). Beside the accuracy
    stands that of the no-change predictor, which answers with the previous row's truth: on autocorrelated streams such as Elec2 it beats
    many learners (Žliobaitė, "How good is the Electricity benchmark for evaluating concept drift adaptation", 2013).

    Args:
        learner: Learns; its task is `binary` or `multiclass`.
        batches: The stream, the oldest first; it is gone through once.
        detectors: By name; each is fed the errors, row by row.
        forget_at: The name of the detector at whose alarms the learner forgets, where errors have become more: a detector of any change
            also sees that it has learned.
        point_rows: Rows between two points of the curve; doubled where there would be more than 100.

    Raises:
        InputError: The task has no classes, or there is no such detector.
    """
    watching = dict(detectors or {})
    if learner.model.task.kind not in {"binary", "classes"}:
        raise InputError(f"the task {learner.model.task.kind!r} has no share of right answers", hint="give a task with classes")
    if forget_at is not None and forget_at not in watching:
        raise InputError(f"forget_at is {forget_at!r}", hint=f"detectors: {', '.join(watching) or 'none'}")
    tally = _Tally(point_rows)
    changes: dict[str, list[int]] = {name: [] for name in watching}
    for batch in batches:
        truth = batch.targets[TARGET].numpy().astype(np.int64)
        right = learner.answer(batch)["probability"].numpy().argmax(axis=1) == truth
        first = tally.rows
        tally.add(right, truth)
        for name, detector in watching.items():
            seen = [first + place for place, one in enumerate(right.tolist()) if detector.update(float(not one))]
            changes[name] += seen
            if seen and name == forget_at and tally.worse:
                learner.forget()
                tally.begin()
        learner.learn(batch)
    return tally.progress(changes)


class _Tally:
    """Counts right answers, in all and since the last point of the curve."""

    def __init__(self, point_rows: int) -> None:
        self.rows = 0
        self._every = point_rows
        self._sums = np.zeros(2, dtype=np.int64)
        self._last_truth = -1
        self._points: list[tuple[int, int, int]] = [(0, 0, 0)]
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._began = (0, 0)

    @property
    def worse(self) -> bool:
        """Whether the last rows were answered worse than all since the last beginning."""
        rows, right = self.rows - self._began[0], int(self._sums[0]) - self._began[1]
        return bool(rows) and sum(self._recent) / len(self._recent) < right / rows

    def begin(self) -> None:
        """Compare with the rows from here on."""
        self._began = (self.rows, int(self._sums[0]))
        self._recent.clear()

    def add(self, right: np.ndarray, truth: np.ndarray) -> None:
        before = np.concatenate([[self._last_truth], truth[:-1]])
        self._last_truth = int(truth[-1])
        self.rows += len(right)
        self._recent.extend(right.tolist())
        self._sums += (int(right.sum()), int((before == truth).sum()))
        if self.rows - self._points[-1][0] >= self._every:
            self._points.append((self.rows, int(self._sums[0]), int(self._sums[1])))
        if len(self._points) > POINTS:
            self._points, self._every = self._points[::2], 2 * self._every

    def progress(self, changes: dict[str, list[int]]) -> Progress:
        if not self.rows:
            raise InputError("the stream has no row", hint="give at least one batch")
        curve = [
            (end[0], (end[1] - start[1]) / (end[0] - start[0]), (end[2] - start[2]) / (end[0] - start[0]))
            for start, end in zip(self._points, self._points[1:], strict=False)
        ]
        right, same = (self._sums / self.rows).tolist()
        return Progress(self.rows, right, same, curve, changes)
