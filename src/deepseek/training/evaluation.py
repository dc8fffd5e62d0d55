"""Metrics of a model on a dataset, in one pass and constant memory."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.batch import Batch
from deepseek.distributed.devices import step_end
from deepseek.distributed.precision import Precision
from deepseek.distributed.ranks import RankContext
from deepseek.distributed.sync import concatenate_across, sum_across
from deepseek.tasks.base import TARGET, Task
from deepseek.tasks.metrics import MeanLoss, exact_auc

LEAST_TOGETHER = 256
"""The fewest rows that are validated at once, memory permitting, however small the batches are."""


class Spill(Protocol):
    """Takes the answers of an evaluation batch by batch."""

    def write(self, decoded: Mapping[str, Tensor], batch: Batch) -> None:
        """Take the answers for a batch."""


class ScoreFile:
    """Keeps every row's scores on disk, for the area under the ROC curve without the grain of bins.

    A context manager; its temporary file is gone when the block ends. Memory holds one class's scores at a time.

    Example:
        `with ScoreFile() as scores: metrics = evaluate(model, task, batches, spill=scores); area = scores.auc()`
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._width = 0
        self._binary = False

    def write(self, decoded: Mapping[str, Tensor], batch: Batch) -> None:
        """Append a batch: probabilities, one-hot truth and weight, float32."""
        probability, target = decoded["probability"].float().cpu(), batch.targets[TARGET].cpu()
        codes = target.ndim == 1
        truth = functional.one_hot(target.long(), probability.shape[1]) if codes else target
        weight = torch.ones(len(target)) if batch.weight is None else batch.weight.cpu()
        rows = torch.cat([probability, truth.float(), weight[:, None]], dim=1)
        self._width = probability.shape[1]
        self._binary = codes and self._width == 2
        self._file.write(rows.numpy().tobytes())

    def auc(self) -> float:
        """Return the area: of the positive class where there are two, else the mean over the classes for which it is defined."""
        if not self._width:
            return math.nan
        self._file.flush()
        rows = np.memmap(self._file, dtype=np.float32, mode="r").reshape(-1, 2 * self._width + 1)
        wanted = [1] if self._binary else range(self._width)
        areas = [exact_auc(rows[:, place], rows[:, self._width + place], rows[:, -1]) for place in wanted]
        defined = [area for area in areas if not math.isnan(area)]
        return sum(defined) / len(defined) if defined else math.nan

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def evaluate(
    model: nn.Module,
    task: Task,
    batches: Iterable[Batch],
    *,
    spill: Spill | None = None,
    context: RankContext | None = None,
    precision: Precision | None = None,
) -> dict[str, float]:
    """Return a model's metrics; of several targets also each one's, as `rmse_TARGET`.

    No row is padded or seen twice, and what ranks add up are sums and counts in float64: the numbers are the same on any number of ranks.

    Args:
        model: Turns a batch's inputs into raw outputs; left in the mode it was in.
        task: Decodes and measures.
        batches: This rank's rows, each once.
        spill: Also takes every answer.
        context: This process's place in the job.
        precision: The number format; float32 where not given.

    Raises:
        DataError: A metric cannot be computed from these rows.
    """
    context = context or RankContext()
    together = getattr(model, "everyone", False)  # a model in parts on several ranks, which all of them have to call
    # what such a model puts together is kept for training, which must not meet tensors of inference
    with torch.no_grad() if together else torch.inference_mode():
        forward = precision.wrap(model.__call__) if precision else model.__call__
        return _evaluated(model, task, batches, spill=spill, context=context, forward=forward)


def _evaluated(
    model: nn.Module, task: Task, batches: Iterable[Batch], *, spill: Spill | None, context: RankContext, forward: Callable[..., Tensor]
) -> dict[str, float]:
    together, queued = getattr(model, "everyone", False), step_end(context.device)
    metrics = task.metrics()
    training = model.training
    model.eval()
    try:
        for batch in batches:
            if not len(batch) and not together:
                continue
            moved = batch if context.device.type == "cpu" else batch.to(context.device)
            out = forward(moved.inputs).float()
            if not len(batch):
                continue
            decoded = task.decode(out)
            for metric in metrics.values():
                if isinstance(metric, MeanLoss):
                    metric.add(*task.loss(out, moved))
                else:
                    metric.update(decoded, moved)
            if spill is not None:
                spill.write(decoded, batch)
            queued()
    finally:
        model.train(training)
    states: list[Any] = [tensor for metric in metrics.values() for name, tensor in metric.state.items() if name not in metric.listed]
    sum_across(states, context)
    for metric in metrics.values():
        metric.state |= {name: concatenate_across(metric.state[name], context) for name in sorted(metric.listed)}
    numbers = {name: metric.compute() for name, metric in metrics.items()}
    return numbers | {f"{name}_{column}": value for name, metric in metrics.items() for column, value in metric.by_column().items()}


def evaluate_exactly(model: nn.Module, task: Task, batches: Iterable[Batch], *, context: RankContext | None = None) -> dict[str, float]:
    """Return a model's metrics as `evaluate` does, the area under the ROC curve from every score instead of from bins.

    On several ranks, each of which has some of the scores, it is that of the bins.

    Args:
        model: Turns a batch's inputs into raw outputs; left in the mode it was in.
        task: Decodes and measures.
        batches: This rank's rows, each once.
        context: This process's place in the job.

    Raises:
        DataError: A metric cannot be computed from these rows.
    """
    context = context or RankContext()
    if not context.is_single or "auc" not in task.metrics():
        return evaluate(model, task, batches, context=context)
    with ScoreFile() as scores:
        metrics = evaluate(model, task, batches, spill=scores, context=context)
        return metrics | {"auc": scores.auc()}
