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
from deepseek.errors import InputError, NonFiniteError
from deepseek.registry import Spec, family
from deepseek.statistics.detectors import Detector
from deepseek.tasks.base import TARGET
from deepseek.tasks.model import TaskModel
from deepseek.training.batch_dependence import keep_batch_statistics, least_rows
from deepseek.training.checkpoints.files import Tensors, load_optimizer, optimizer_tensors
from deepseek.training.state import Json

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
        """Take one step on the batch and, where there is something to rehearse, one on an earlier one.

        A single row has no variance: batch normalisations then go by the statistics that they have gathered, and keep them.

        Raises:
            NonFiniteError: The loss or its gradient is NaN or infinite; the weights stay what they were.
        """
        self.model.train()
        self._step(batch)
        if self._kept:
            self.model.train()
            self._step(self._kept[int(self._draw.integers(len(self._kept)))])
        if self._kept.maxlen:
            self._kept.append(batch)

    def forget(self) -> None:
        """Drop what is rehearsed and the optimizer's memory: they are of the time before a change."""
        self._kept.clear()
        self._optimizer = self._fresh()

    def state(self) -> tuple[Tensors, Json]:
        """Return weights, optimizer, what is rehearsed and the generators: with `load_state`, learning goes on bit for bit."""
        kept = {name: tensor for place, batch in enumerate(self._kept) for name, tensor in packed(batch, str(place)).items()}
        tensors = {
            "model": dict(self.model.state_dict()),
            "optimizer": optimizer_tensors(self._optimizer, self.model),
            "replay": kept,
            "generator": {"torch": torch.get_rng_state()},
        }
        return tensors, {"draw": self._draw.bit_generator.state, "replay": len(self._kept)}

    def load_state(self, tensors: Tensors, state: Json) -> None:
        """Go on from what `state` returned, with a model and arguments like those of then.

        Raises:
            CheckpointError: The state is another model's.
        """
        self.model.load_state_dict(tensors["model"])
        self._optimizer = self._fresh()
        load_optimizer(self._optimizer, self.model, tensors.get("optimizer", {}))
        self._kept.clear()
        self._kept.extend(unpacked(tensors["replay"], str(place)) for place in range(state["replay"]))
        self._draw.bit_generator.state = state["draw"]
        torch.set_rng_state(tensors["generator"]["torch"])

    def _fresh(self) -> torch.optim.Optimizer:
        return self._spec.build([{"params": list(self.model.parameters())}])

    def _step(self, batch: Batch) -> None:
        if batch.weight is not None and not batch.weight.any():
            return  # rows that weigh nothing teach nothing
        if len(batch) < least_rows(self.model):
            keep_batch_statistics(self.model)
        self._optimizer.zero_grad(set_to_none=True)
        numerator, denominator = self.model.task.loss(self.model(batch.inputs), batch)
        loss = numerator / denominator
        torch.autograd.backward(loss)
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in self.model.parameters() if parameter.grad is not None])
        if not (loss.isfinite() and norm.isfinite()):
            raise NonFiniteError(
                f"the loss of a batch of {len(batch)} rows is {loss.item():g}, and the norm of its gradient {norm.item():g}: nothing is "
                "learned from it, as the model would be lost",
                hint="lower the learning rate of the optimizer (learn.optimizer), or set such rows aside with a check",
            )
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
    validation = ProgressiveValidation(learner, detectors=detectors, forget_at=forget_at, point_rows=point_rows)
    for batch in batches:
        validation.step(batch)
    return validation.progress()


class ProgressiveValidation:
    """What `progressive_validation` does, batch by batch, for whoever has to do something in between; the arguments are the same.

    Raises:
        InputError: The task has no classes, or there is no such detector.
    """

    def __init__(
        self,
        learner: OnlineLearner,
        *,
        detectors: Mapping[str, Detector] | None = None,
        forget_at: str | None = None,
        point_rows: int = 500,
    ) -> None:
        self._learner, self._forget_at = learner, forget_at
        self._watching = dict(detectors or {})
        if learner.model.task.kind not in {"binary", "classes"}:
            raise InputError(f"the task {learner.model.task.kind!r} has no share of right answers", hint="give a task with classes")
        if forget_at is not None and forget_at not in self._watching:
            raise InputError(f"forget_at is {forget_at!r}", hint=f"detectors: {', '.join(self._watching) or 'none'}")
        self._tally = _Tally(point_rows)
        self._changes: dict[str, list[int]] = {name: [] for name in self._watching}

    @property
    def rows(self) -> int:
        """How many rows there have been."""
        return self._tally.rows

    def step(self, batch: Batch) -> None:
        """Answer a batch, take note of the errors, then learn from it."""
        truth = batch.targets[TARGET].numpy().astype(np.int64)
        right = self._learner.answer(batch)["probability"].numpy().argmax(axis=1) == truth
        first = self._tally.rows
        self._tally.add(right, truth)
        for name, detector in self._watching.items():
            seen = [first + place for place, one in enumerate(right.tolist()) if detector.update(float(not one))]
            self._changes[name] += seen
            if seen and name == self._forget_at and self._tally.worse:
                self._learner.forget()
                self._tally.begin()
        self._learner.learn(batch)

    def progress(self) -> Progress:
        """Return what was found so far.

        Raises:
            InputError: There was no row.
        """
        return self._tally.progress(self._changes)

    def state(self) -> Json:
        """Return counts and detectors as plain JSON values; the learner's state is its own."""
        detectors = {name: detector.state() for name, detector in self._watching.items()}
        return {"tally": self._tally.state(), "changes": self._changes, "detectors": detectors}

    def load_state(self, state: Json) -> None:
        """Go on from what `state` returned."""
        self._tally.load_state(state["tally"])
        self._changes = {name: list(places) for name, places in state["changes"].items()}
        for name, detector in self._watching.items():
            detector.load_state(state["detectors"][name])


def packed(batch: Batch, name: str) -> dict[str, Tensor]:
    """Return a batch's tensors by names that begin with one, for a file of tensors."""
    parts = {f"{name}/inputs/{key}": tensor for key, tensor in batch.inputs.items()}
    parts |= {f"{name}/targets/{key}": tensor for key, tensor in batch.targets.items()}
    return parts | ({} if batch.weight is None else {f"{name}/weight": batch.weight})


def unpacked(tensors: Mapping[str, Tensor], name: str) -> Batch:
    """Return the batch that `packed` was given."""
    parts = {part: f"{name}/{part}/" for part in ("inputs", "targets")}
    found = {
        part: {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        for part, prefix in parts.items()
    }
    return Batch(found["inputs"], found["targets"], tensors.get(f"{name}/weight"))


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

    def state(self) -> Json:
        return {
            "rows": self.rows,
            "every": self._every,
            "sums": self._sums.tolist(),
            "last_truth": self._last_truth,
            "points": [list(point) for point in self._points],
            "recent": list(self._recent),
            "began": list(self._began),
        }

    def load_state(self, state: Json) -> None:
        self.rows, self._every, self._last_truth = state["rows"], state["every"], state["last_truth"]
        self._sums = np.array(state["sums"], dtype=np.int64)
        self._points = [(rows, right, same) for rows, right, same in state["points"]]
        self._recent = deque(state["recent"], maxlen=RECENT)
        self._began = (state["began"][0], state["began"][1])

    def progress(self, changes: dict[str, list[int]]) -> Progress:
        if not self.rows:
            raise InputError("the stream has no row", hint="give at least one batch")
        curve = [
            (end[0], (end[1] - start[1]) / (end[0] - start[0]), (end[2] - start[2]) / (end[0] - start[0]))
            for start, end in zip(self._points, self._points[1:], strict=False)
        ]
        right, same = (self._sums / self.rows).tolist()
        return Progress(self.rows, right, same, curve, changes)
