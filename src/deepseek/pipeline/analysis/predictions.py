"""A run's own rows put to its model again: answers, truth, losses, and the table's values beside them, of a bounded sample.

Legend of shapes: `n` rows · `o` answers a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from deepseek import progress
from deepseek.data.batch import Batch
from deepseek.data.landing import LandedTable
from deepseek.data.loader import rows_within
from deepseek.data.prepared import PreparedDataset
from deepseek.fields import Kind
from deepseek.pipeline.preparing.dataset import Dataset
from deepseek.statistics import mix64
from deepseek.statistics.intervals import Interval
from deepseek.statistics.resampling import weighted_bootstrap
from deepseek.tasks.base import TARGET, Task
from deepseek.tasks.metrics import MeanLoss
from deepseek.tasks.model import TaskModel

BATCH_ROWS = 512
MOST_NUMBERS = 20_000_000
"""Answers kept at once: of many classes fewer rows are asked."""

BOOTSTRAP_ROWS = 20_000
REPEATS = 200
LOSS = "loss"
_BULKY = frozenset({Kind.IMAGE, Kind.AUDIO, Kind.VOLUME, Kind.SERIES, Kind.MASK, Kind.BOXES})


@dataclass(frozen=True)
class Predictions:
    """Rows of one split with the model's answers.

    Attributes:
        split: The split's name.
        of: How many rows it has.
        places: Which of its prepared rows were asked, ascending, int64 `[n]`.
        decoded: The answers, `[n, o]`, under the names that the task gives them.
        target: The truth as a batch holds it.
        losses: Each row's loss, float64 `[n]`.
        loss_weights: What each weighs in the mean loss.
        weight: The rows' own weights, where they have any.
        brightness: By image input, each row's mean pixel, 0 to 255.
    """

    split: str
    of: int
    places: np.ndarray
    decoded: dict[str, Tensor]
    target: Tensor
    losses: np.ndarray
    loss_weights: np.ndarray
    weight: Tensor | None
    brightness: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def row_weights(self) -> np.ndarray | None:
        """The rows' weights, float64 `[n]`, or nothing where all weigh alike."""
        return None if self.weight is None else self.weight.double().numpy()

    @property
    def is_whole(self) -> bool:
        """Whether every row of the split was asked."""
        return len(self) == self.of


def predict_split(model: TaskModel, data: PreparedDataset, split: str, *, rows: int, seed: int = 0) -> Predictions:
    """Put rows of a split to a model.

    Args:
        model: The trained model.
        data: The split's prepared rows.
        split: Its name.
        rows: The most rows asked; of more a uniform sample.
        seed: Says which.
    """
    most = min(rows, max(MOST_NUMBERS // max(model.task.outputs, 2), 1))
    places = sample_of(len(data), most, seed)
    parts = []
    with progress.task(f"asking {split} rows", len(places)) as advance:
        for batch in _batches(data, places):
            parts.append(_predict(model, batch))
            advance(len(batch))
    batches = [batch for batch, *_ in parts]
    weights = [batch.weight for batch in batches if batch.weight is not None]
    images = [name for name, spec in data.inputs.items() if spec.kind is Kind.IMAGE]
    return Predictions(
        split,
        len(data),
        places,
        {name: torch.cat([decoded[name] for _, decoded, *_ in parts]) for name in parts[0][1]},
        torch.cat([batch.targets[TARGET] for batch in batches]),
        np.concatenate([losses for *_, losses, _, _ in parts]),
        np.concatenate([weight for *_, weight, _ in parts]),
        torch.cat(weights) if weights else None,
        {name: np.concatenate([bright[name] for *_, bright in parts]) for name in images},
    )


def sample_of(rows: int, most: int, seed: int) -> np.ndarray:
    """Return at most so many row numbers, ascending: a uniform sample, the same on every machine."""
    if rows <= most:
        return np.arange(rows)
    keys = mix64(np.arange(rows, dtype=np.uint64), seed)
    return np.sort(np.argpartition(keys, most)[:most])


def metric_intervals(task: Task, predictions: Predictions, *, seed: int = 0) -> dict[str, Interval]:
    """Return a 95 % bootstrap interval for each of a task's metrics, for as many rows as the split has."""
    chosen = sample_of(len(predictions), BOOTSTRAP_ROWS, seed + 1)
    return {
        name: weighted_bootstrap(measure, len(chosen), repeats=REPEATS, seed=seed, of_rows=predictions.of)
        for name, measure in _measures(task, predictions, chosen).items()
    }


def difference_interval(task: Task, name: str, *, first: Predictions, second: Predictions, seed: int = 0) -> Interval:
    """Return by how much a metric of the second answers is above that of the first, to the same rows, with its 95 % bootstrap interval.

    Args:
        task: The task of both.
        name: The metric.
        first: Answers to rows.
        second: Other answers to the same rows.
        seed: Says which rows are drawn.
    """
    chosen = sample_of(len(first), BOOTSTRAP_ROWS, seed + 1)
    before, after = (_measures(task, one, chosen)[name] for one in (first, second))

    def difference(counts: np.ndarray) -> float:
        return after(counts) - before(counts)

    return weighted_bootstrap(difference, len(chosen), repeats=REPEATS, seed=seed, of_rows=first.of)


def table_rows(dataset: Dataset, data: PreparedDataset, predictions: Predictions, *, places: np.ndarray | None = None) -> pa.Table:
    """Return the table's values of asked rows as they were read, in order, without images and other bulky values.

    Args:
        dataset: The run's dataset.
        data: The split's prepared rows.
        predictions: The asked rows.
        places: Which of them, ascending; all where not given.
    """
    table = LandedTable.open(dataset.landed["test" if predictions.split == "test" and "test" in dataset.landed else "source"])
    bulky = {item.name for item in dataset.preparation().schema if item.kind in _BULKY}
    names = [item.name for item in table.schema if item.name not in bulky and not pa.types.is_nested(item.type)]
    numbers = data.source_numbers(predictions.places if places is None else predictions.places[places])
    return pa.Table.from_batches(table.batches(rows=numbers, columns=names), pa.schema([table.schema.field(name) for name in names]))


def _batches(data: PreparedDataset, places: np.ndarray) -> Iterator[Batch]:
    size = rows_within(data, BATCH_ROWS)
    for start in range(0, len(places), size):
        yield data.take(places[start : start + size])


@torch.inference_mode()
def _predict(model: TaskModel, batch: Batch) -> tuple[Batch, dict[str, Tensor], np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    task: Task = model.task
    out = model(batch.inputs).float()
    target = batch.targets[TARGET]
    losses = task.row_losses(out, target).double().numpy()
    weight = task.row_weights(target)
    weight = torch.ones(len(target)) if weight is None else weight
    total = (weight if batch.weight is None else weight * batch.weight).double().numpy()
    bright = {name: _brightness(tensor) for name, tensor in batch.inputs.items() if tensor.ndim == 4 and tensor.dtype == torch.uint8}
    return Batch({}, batch.targets, batch.weight), task.decode(out), losses, total, bright


def _brightness(images: Tensor) -> np.ndarray:
    return np.asarray(images.float().flatten(1).mean(dim=1).numpy())


def _measures(task: Task, predictions: Predictions, rows: np.ndarray) -> dict[str, Callable[[np.ndarray], float]]:
    """Return by name what computes each metric of some of the rows, from how often each of them is drawn."""
    chosen = torch.from_numpy(rows)
    decoded = {name: tensor[chosen] for name, tensor in predictions.decoded.items()}
    batch = Batch({}, {TARGET: predictions.target[chosen]}, None if predictions.weight is None else predictions.weight[chosen])
    measures: dict[str, Callable[[np.ndarray], float]] = {
        name: partial(_measured, task, name, decoded, batch) for name, one in task.metrics().items() if not isinstance(one, MeanLoss)
    }
    measures[LOSS] = partial(_mean_loss, predictions.losses[rows], predictions.loss_weights[rows])
    return measures


def _measured(task: Task, name: str, decoded: Mapping[str, Tensor], batch: Batch, counts: np.ndarray) -> float:
    metric = task.metrics()[name]
    weight = torch.from_numpy(counts).float()
    metric.update(decoded, Batch({}, batch.targets, weight if batch.weight is None else weight * batch.weight))
    return metric.compute()


def _mean_loss(losses: np.ndarray, weights: np.ndarray, counts: np.ndarray) -> float:
    total = float((counts * weights).sum())
    return float((counts * weights * losses).sum()) / total if total else math.nan
