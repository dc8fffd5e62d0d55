"""The rows that a model gets most wrong, as examples for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.pipeline.analysis.predictions import Predictions
from deepseek.pipeline.analysis.quality import row_errors, true_values
from deepseek.reporting.facts import Example
from deepseek.reporting.pictures import thumbnail


def worst_rows(spec: TargetSpec, predictions: Predictions, most: int) -> np.ndarray:
    """Return which asked rows the model gets wrong while it is most sure, or with the largest error, the worst first."""
    errors, _ = row_errors(spec, predictions)
    if spec.kind == "values":
        order = np.argsort(-errors, kind="stable")[:most]
    else:
        probability = predictions.decoded["probability"].numpy()
        sure = probability.max(axis=1) if spec.kind != "labels" else np.abs(probability - predictions.target.numpy()).max(axis=1)
        order = np.lexsort((-sure, errors == 0))[:most]
    return np.asarray(order[errors[order] > 0])


def examples(
    spec: TargetSpec, predictions: Predictions, *, data: PreparedDataset, chosen: np.ndarray, rows: Sequence[Mapping[str, Any]]
) -> list[Example]:
    """Return rows as examples.

    Args:
        spec: The target.
        predictions: The asked rows.
        data: Their prepared rows, which hold the images.
        chosen: Which of the asked rows.
        rows: Their values in the table, in the same order.
    """
    images = {name: array.numpy() for name, array in data.take(predictions.places[chosen]).inputs.items() if name in predictions.brightness}
    made = []
    numbers = data.source_numbers(predictions.places[chosen])
    for place, (index, number, values) in enumerate(zip(chosen.tolist(), numbers, rows, strict=True)):
        truth, answer, measure = _in_words(spec, predictions, index)
        shown = [(name, "missing" if value is None else str(value)) for name, value in values.items() if name not in spec.columns]
        pictures = [(name, thumbnail(array[place])) for name, array in images.items()]
        made.append(Example(int(number), truth, answer, measure, shown, pictures))
    return made


def _in_words(spec: TargetSpec, predictions: Predictions, index: int) -> tuple[str, str, str]:
    """Return in words what is true of a row, what the model says, and how wrong or how sure it is."""
    if spec.kind == "values":
        truth, answer = (values[index] for values in true_values(spec, predictions))
        worst = int(np.abs((answer - truth) / np.array(spec.std)).argmax())
        of = f" in {spec.columns[worst]}" if len(spec.columns) > 1 else ""
        return _numbers(spec, truth), _numbers(spec, answer), f"error {answer[worst] - truth[worst]:+.5g}{of}"
    probability = predictions.decoded["probability"][index].numpy()
    if spec.kind == "labels":
        names = [
            ", ".join(spec.classes[n] for n in np.flatnonzero(chosen)) or "none"
            for chosen in (predictions.target[index].numpy(), probability >= 0.5)
        ]
        return names[0], names[1], f"largest error {np.abs(probability - predictions.target[index].numpy()).max():.1%}"
    return spec.classes[int(predictions.target[index])], spec.classes[int(probability.argmax())], f"sure by {probability.max():.1%}"


def _numbers(spec: TargetSpec, values: np.ndarray) -> str:
    if len(spec.columns) == 1:
        return f"{values[0]:.6g}"
    return ", ".join(f"{name} {value:.6g}" for name, value in zip(spec.columns, values, strict=True))
