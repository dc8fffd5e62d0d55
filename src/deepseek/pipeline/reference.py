"""What a bundle keeps of its training for the day when its model is watched: no row, but what all of them looked like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepseek.data.landing import LandedTable
from deepseek.data.preparation import Preparation
from deepseek.data.prepared import PreparedDataset
from deepseek.data.windows.preparation import WindowPreparation
from deepseek.monitoring.outcomes import Target
from deepseek.monitoring.reference import ROWS, make_reference, sketch_inputs
from deepseek.pipeline.analysis.predictions import predict_split
from deepseek.pipeline.preparing.dataset import Dataset
from deepseek.tasks.model import TaskModel

ANSWERED_ROWS = 20_000
"""So many of the rows that the model is measured on, drawn at random, stand for all of them."""


def input_sketches(dataset: Dataset, *, seed: int) -> dict[str, Any]:
    """Return sketches of the raw columns of the rows that are trained on, at most 100,000 of them drawn at random.

    Args:
        dataset: The run's dataset.
        seed: Says which.
    """
    preparation, train = dataset.preparation(), dataset.open("train")
    assert train is not None
    table = LandedTable.open(dataset.landed["source"])
    rows = np.unique(train.source_numbers())
    sample = table.sample(rows[rows >= 0], ROWS, seed)  # rows of self-training stand in no table of labelled ones
    wanted = set(preparation.columns)
    return sketch_inputs(sample, [field for field in preparation.schema.inputs if field.name in wanted])


def reference_of(
    model: TaskModel,
    preparation: Preparation,
    inputs: Mapping[str, Any],
    *,
    data: Mapping[str, PreparedDataset],
    measured: Sequence[str],
) -> dict[str, Any]:
    """Return what a bundle's `reference.json` holds, of a model that has just been trained.

    Answers are those to test rows where the run measures on them, as validation rows had a say in which weights were kept and flatter them;
    else to validation rows. Without either only inputs are known.

    Args:
        model: The trained model.
        preparation: What prepared its rows.
        inputs: What `input_sketches` returned.
        data: The prepared rows by split.
        measured: The splits that the run measures on; a search looks at no test row.
    """
    assert preparation.target is not None, "without a target nothing is trained"
    spec = preparation.target.spec
    target = Target.of(preparation.target)
    if not spec.is_plain:
        return make_reference(inputs, target, None, labels=[], spellings=preparation.spellings)
    name = next((name for name in ("test", "validation") if name in data and name in measured), None)
    if name is None or isinstance(preparation, WindowPreparation):  # what came of a forecast is known step by step, not as one number
        return make_reference(
            inputs, target, model.task.answer(_no_answers(model, data["train"])), labels=[], spellings=preparation.spellings
        )
    asked = predict_split(model.cpu().eval(), data[name], name, rows=ANSWERED_ROWS)
    truth = asked.target.numpy()
    labels: list[Any]
    if spec.kind == "values":
        labels = (truth.reshape(len(truth), -1).astype(np.float64) * np.array(spec.std) + np.array(spec.mean)).tolist()
    elif spec.kind == "labels":
        labels = [[spec.classes[place] for place in np.flatnonzero(row >= 0.5)] for row in truth]
    else:
        labels = [spec.classes[place] for place in truth.astype(np.int64).tolist()]
    return make_reference(inputs, target, model.task.answer(asked.decoded), labels=labels, spellings=preparation.spellings)


def _no_answers(model: TaskModel, train: PreparedDataset) -> dict[str, Any]:
    asked = predict_split(model.cpu().eval(), train, "train", rows=1)
    return {name: values[:0] for name, values in asked.decoded.items()}
