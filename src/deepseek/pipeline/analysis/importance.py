"""Which columns a run's answers hang on: its monitored metric, measured again with each column shuffled."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from deepseek.data.batch import Batch, in_pieces
from deepseek.data.preparation import Preparation
from deepseek.data.prepared import PreparedDataset
from deepseek.data.transforms.base import Array
from deepseek.explainers.importance import column_shuffles, permutation_importance
from deepseek.pipeline.analysis.predictions import BATCH_ROWS, Predictions, sample_of
from deepseek.reporting.facts import ImportanceFacts
from deepseek.tasks.metrics import MeanLoss
from deepseek.tasks.model import TaskModel

ROWS = 2_000
REPEATS = 5
_MOST_ANSWERS = {False: 400_000, True: 10_000}
"""The most rows put to the model, over all columns and shuffles, without and with images; many columns get fewer rows."""


def importance_facts(
    model: TaskModel,
    data: PreparedDataset,
    *,
    predictions: Predictions,
    table: pa.Table,
    preparation: Preparation,
    metric: str,
    seed: int,
) -> ImportanceFacts:
    """Return how much worse a metric gets where a column is shuffled.

    Args:
        model: The trained model.
        data: The split's prepared rows.
        predictions: The rows of it that were asked; a sample of them is asked again.
        table: Their values in the table, in the same order.
        preparation: What made the prepared rows from the table.
        metric: The metric's name; the task's own where it does not compute that one.
        seed: Says which rows, and how they are shuffled.
    """
    columns = max(len(preparation.columns), 1)
    budget = _MOST_ANSWERS[bool(predictions.brightness)]
    most = min(ROWS, max(budget // (columns * REPEATS), 100))
    places = sample_of(len(predictions), most, seed)
    score = Scorer(model, data, places=predictions.places[places], metric=metric)
    inputs, batch = _met(preparation, score.inputs, table.take(pa.array(places)))
    found = permutation_importance(
        score,
        inputs,
        column_shuffles(preparation, batch, inputs),
        higher_is_better=score.higher_is_better,
        repeats=REPEATS,
        seed=seed,
    )
    listed = [(one.column, one.mean, one.low, one.high) for one in found]
    return ImportanceFacts(score.metric, len(places), REPEATS, listed)


class Scorer:
    """The monitored metric of a model on some rows, for other inputs of the same rows.

    Args:
        model: The trained model.
        data: The prepared rows.
        places: Which of them.
        metric: The metric's name; the task's own where it does not compute that one.

    Attributes:
        inputs: The rows' inputs by name; those of unequal length are not padded, as one long text would pad them all.
        metric: The metric's name.
        higher_is_better: Whether a larger number is a better one.
    """

    def __init__(self, model: TaskModel, data: PreparedDataset, *, places: np.ndarray, metric: str) -> None:
        self._model, rows = model, data.take(places, ragged=False)
        self._targets, self._weight = rows.targets, rows.weight
        self.inputs: dict[str, Array] = {name: tensor.numpy() for name, tensor in rows.inputs.items()}
        self.inputs |= {column.name: data.ragged(column.name, places) for column in data.layout if column.ragged}
        known = model.task.metrics()
        self.metric = metric if metric in known else model.task.monitor
        self.higher_is_better = known[self.metric].higher_is_better

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, Array]) -> float:
        """Return the metric for inputs of `n` rows by name."""
        task, metric = self._model.task, self._model.task.metrics()[self.metric]
        for rows, tensors in in_pieces(inputs):
            for batch in self._batch(tensors, rows).split(BATCH_ROWS):
                out = self._model(batch.inputs).float()
                if isinstance(metric, MeanLoss):
                    metric.add(*task.loss(out, batch))
                else:
                    metric.update(task.decode(out), batch)
        return metric.compute()

    def _batch(self, inputs: dict[str, Tensor], rows: np.ndarray | None) -> Batch:
        if rows is None:
            return Batch(inputs, self._targets, self._weight)
        targets = {name: tensor[rows] for name, tensor in self._targets.items()}
        return Batch(inputs, targets, None if self._weight is None else self._weight[rows])


def _met(preparation: Preparation, inputs: Mapping[str, Array], table: pa.Table) -> tuple[dict[str, Array], pa.RecordBatch]:
    """Return the inputs of rows, and the rows as the cleaners leave them; what is to be shuffled by column is made from just these."""
    batch = next(batch for batch, _ in preparation.other_rows(iter([table.combine_chunks().to_batches()[0]])))
    met = dict(inputs)
    for transform in preparation.transforms:
        if len(transform.fields) > 1:
            met |= transform.apply(batch)
    return met, batch
