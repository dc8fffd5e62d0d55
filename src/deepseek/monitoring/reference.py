"""What a bundle knows of the rows that its model was made with: sketches of inputs and answers, and what the model reached."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from deepseek.artifacts import Bundle
from deepseek.errors import BundleError, InputError
from deepseek.fields import Field, Kind
from deepseek.monitoring.columns import SKETCHED, sketch_of
from deepseek.monitoring.outcomes import Target, outcomes_of, predictions_of
from deepseek.statistics.label_free import ConfidenceCurve
from deepseek.statistics.sequential import Reference, auc_std, auc_weight
from deepseek.statistics.sketches import ColumnSketch, NameSketch, NumberSketch, sketch_names, sketch_numbers

REFERENCE_FILE = "reference.json"
VERSION = 1
ROWS = 100_000
"""So many training rows, drawn at random, stand for all of them."""
CONFIDENCE = "confidence"
PREDICTION = "prediction"


@dataclass(frozen=True)
class ModelReference:
    """What the watched rows are compared with.

    Attributes:
        rows: How many rows stand behind the `inputs` and the `answers`.
        target: What is predicted.
        kinds: What each input column was in training.
        inputs: Sketches of training rows by raw column.
        answers: Sketches of the answers to rows that the model was measured on: `prediction`, and `confidence` where there are classes.
        metrics: What was reached on those, with the spread of one row: what a drop is measured against.
        curve: How often answers of each confidence were right; nothing where there are no classes.
        spellings: Other spellings of a value, by column.
    """

    rows: dict[str, int]
    target: Target
    kinds: dict[str, Kind]
    inputs: dict[str, ColumnSketch]
    answers: dict[str, ColumnSketch]
    metrics: dict[str, Reference]
    curve: ConfidenceCurve | None
    spellings: dict[str, dict[str, str]]

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """Read a bundle's reference.

        Raises:
            BundleError: It was written before there were any, or by a newer version.
        """
        if REFERENCE_FILE not in bundle.manifest["files"]:
            raise BundleError(f"{bundle.path} has no {REFERENCE_FILE}: nothing is known of its training rows", hint="train it again")
        return cls.from_json(bundle.read(REFERENCE_FILE))

    def to_json(self) -> dict[str, Any]:
        """Return the reference as plain JSON values."""
        return {
            "version": VERSION,
            "rows": self.rows,
            "target": {**asdict(self.target), "columns": list(self.target.columns), "classes": list(self.target.classes)},
            "inputs": {name: {"kind": self.kinds[name].value, "sketch": sketch.to_json()} for name, sketch in self.inputs.items()},
            "answers": {name: sketch.to_json() for name, sketch in self.answers.items()},
            "metrics": {name: asdict(one) for name, one in self.metrics.items()},
            "curve": self.curve.to_json() if self.curve else None,
            "spellings": self.spellings,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the reference that `to_json` wrote.

        Raises:
            BundleError: It is from a newer version, or none at all.
        """
        try:
            if value["version"] > VERSION:
                raise BundleError(f"{REFERENCE_FILE} is of version {value['version']}", hint="pip install --upgrade deepseek-framework")
            return cls(
                rows={name: int(count) for name, count in value["rows"].items()},
                target=Target.from_json(value["target"]),
                kinds={name: Kind(one["kind"]) for name, one in value["inputs"].items()},
                inputs={name: ColumnSketch.from_json(one["sketch"]) for name, one in value["inputs"].items()},
                answers={name: ColumnSketch.from_json(one) for name, one in value["answers"].items()},
                metrics={name: Reference(**one) for name, one in value["metrics"].items()},
                curve=ConfidenceCurve.from_json(value["curve"]) if value["curve"] else None,
                spellings=value["spellings"],
            )
        except (AttributeError, KeyError, TypeError, ValueError, InputError) as error:
            raise BundleError(f"{REFERENCE_FILE} does not describe a reference: {error!r}") from None


def sketch_inputs(table: pa.Table, fields: Sequence[Field]) -> dict[str, Any]:
    """Return sketches of training rows as plain JSON values, for `make_reference`.

    Args:
        table: Raw rows, a uniform sample of all where there are many.
        fields: The model's input columns; kinds that are not compared (points in time, series) are left out.
    """
    return {
        field.name: {"kind": field.kind.value, "sketch": sketch_of(table, field.name, field.kind).to_json()}
        for field in fields
        if field.kind in SKETCHED and field.name in table.column_names
    }


def make_reference(
    inputs: Mapping[str, Any],
    target: Target,
    answers: pa.Table | None,
    *,
    labels: Sequence[Any],
    spellings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what `reference.json` holds.

    Args:
        inputs: What `sketch_inputs` returned.
        target: What is predicted.
        answers: Answers to rows that the model was not trained on; without rows where there are none, and nothing where they are not
            compared (masks).
        labels: Their truth.
        spellings: Other spellings of a value, by column.
    """
    said, probability = ([], None) if answers is None else predictions_of(answers, target)
    sketches, curve, metrics = {} if answers is None else sketch_answers(target, said), None, {}
    if len(said):
        found, _ = outcomes_of(target, said, probability, labels=labels)
        metrics = {name: _reached(name, found.rows[name]) for name in found.rows if len(found)}
        if len(found.score) and not math.isnan(value := found.value("auc")):
            positives, count = float(found.truth.sum()), float(len(found))
            metrics["auc"] = Reference(value, auc_std(value, positives / count), auc_weight(positives, count))
        if probability is not None and target.kind != "labels" and len(found):
            curve = ConfidenceCurve.fit(probability.max(axis=1), found.rows["accuracy"].astype(bool))
            sketches[CONFIDENCE] = curve.sketch()
            sketches[CONFIDENCE].update(probability.max(axis=1))
    rows = {"inputs": max((one["sketch"]["rows"] for one in inputs.values()), default=0), "answers": len(said)}
    whole = ModelReference(rows, target, {}, {}, sketches, metrics, curve, {name: dict(one) for name, one in (spellings or {}).items()})
    return {**whole.to_json(), "inputs": dict(inputs)}


def sketch_answers(target: Target, said: Sequence[Any]) -> dict[str, ColumnSketch]:
    """Return reference sketches of answers."""
    if target.kind == "values":
        values = np.array([np.ravel(one).mean() for one in said], dtype=np.float64)
        return {PREDICTION: sketch_numbers(values)}
    sketch = sketch_names(dict.fromkeys(target.classes, 0), least=0)
    sketch.update_counts(names_said(said))
    return {PREDICTION: sketch}


def fold_answers(sketches: Mapping[str, ColumnSketch], said: Sequence[Any], probability: np.ndarray | None) -> None:
    """Fold answers into sketches with the reference's bins."""
    predictions = sketches[PREDICTION]
    if isinstance(predictions, NumberSketch):
        predictions.update(np.array([np.ravel(one).mean() for one in said], dtype=np.float64))
    elif isinstance(predictions, NameSketch):
        predictions.update_counts(names_said(said))
    if CONFIDENCE in sketches and probability is not None:
        sketches[CONFIDENCE].update(probability.max(axis=1))


def names_said(said: Sequence[Any]) -> list[tuple[str, int]]:
    """Return how often each class or label was answered."""
    flat = [str(name) for one in said for name in (one if isinstance(one, list) else [one])]
    names, counts = np.unique(np.array(flat, dtype=str), return_counts=True)
    return list(zip(names.tolist(), counts.tolist(), strict=True))


def _reached(name: str, values: np.ndarray) -> Reference:
    value, rows = float(values.mean()), float(len(values))
    if name == "accuracy" and np.isin(values, (0.0, 1.0)).all() and value > 0:
        return Reference.of_share(value, rows)
    return Reference(value, float(values.std()), rows)
