"""How right answers were, row by row, from the answers' table and the labels that came later; no model is needed.

Legend of shapes: `n` rows · `k` classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa

from deepseek.data.columns import as_float64, is_text, plain, spell
from deepseek.data.targets import TargetTransform
from deepseek.errors import InputError
from deepseek.statistics.association import mid_ranks

HIGHER = {"accuracy": True, "auc": True, "log_loss": False, "mae": False, "mse": False}
"""The metrics that can be watched, and whether a higher value is a better one."""
POINTS = frozenset({"accuracy", "auc"})
"""The metrics whose drop is counted in points; that of the others is a share of their value in the reference."""
_LEAST = 1e-6
_METRICS: Mapping[str, tuple[str, ...]] = {
    "binary": ("accuracy", "auc", "log_loss"),
    "classes": ("accuracy", "log_loss"),
    "labels": ("accuracy",),
    "values": ("mae", "mse"),
}


@dataclass(frozen=True)
class Target:
    """What is predicted, as far as it takes to compare answers with labels.

    Attributes:
        kind: `binary`, `classes`, `labels` or `values`; answers of another kind (`mask`) are not compared.
        columns: The target columns.
        classes: Class names as texts.
        separator: What stands between the labels of one text.
    """

    kind: str
    columns: tuple[str, ...]
    classes: tuple[str, ...] = ()
    separator: str = ","

    @classmethod
    def of(cls, fitted: TargetTransform) -> Self:
        """Return what is kept of a target to compare answers with.

        Args:
            fitted: The target as training has prepared it.
        """
        return cls(fitted.spec.kind, tuple(fitted.spec.columns), tuple(fitted.spec.classes), fitted.separator)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the target whose attributes were written as JSON."""
        return cls(value["kind"], tuple(value["columns"]), tuple(value["classes"]), value["separator"])

    @property
    def metrics(self) -> tuple[str, ...]:
        """What can be watched, the usual one first; nothing where a row's answer is not compared as a whole."""
        return _METRICS.get(self.kind, ())

    @property
    def loss(self) -> str:
        """What `loss` stands for."""
        return {"binary": "log_loss", "classes": "log_loss", "labels": "accuracy", "values": "mse"}.get(self.kind, "")

    @property
    def is_comparable(self) -> bool:
        """Whether a row has one answer that can be kept and compared with a label that comes later."""
        return bool(self.metrics)


@dataclass
class Outcomes:
    """Rows whose truth is known.

    Attributes:
        rows: Row by row what each metric is the mean of, `[n]` by metric.
        score: For two classes the probability of the second, `[n]`.
        truth: For two classes whether it came true, bool `[n]`.
    """

    rows: dict[str, np.ndarray]
    score: np.ndarray = field(default_factory=lambda: np.empty(0))
    truth: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=bool))

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    def value(self, metric: str) -> float:
        """Return the metric over these rows; NaN where it has no value."""
        if metric == "auc":
            return area(self.score, self.truth)
        values = self.rows[metric]
        return float(values.mean()) if len(values) else math.nan


def predictions_of(answers: pa.Table, target: Target) -> tuple[list[Any], np.ndarray | None]:
    """Return what each row was answered, as plain values, and its probabilities, float64 `[n, k]`, where there are classes."""
    names = ["prediction"] if "prediction" in answers.column_names else [f"prediction_{name}" for name in target.columns]
    if len(names) > 1:
        said: list[Any] = [list(row) for row in zip(*(answers.column(name).to_pylist() for name in names), strict=True)]
    elif target.kind in {"binary", "classes"}:
        said = _texts(answers.column(names[0]), names[0])
    else:
        said = answers.column(names[0]).to_pylist()
    columns = [f"probability_{name}" for name in target.classes]
    if not columns or any(name not in answers.column_names for name in columns):
        return said, None
    return said, np.stack([answers.column(name).to_numpy().astype(np.float64) for name in columns], axis=1)


def labels_of(column: pa.Array | pa.ChunkedArray, target: Target) -> list[Any]:
    """Return labels as plain values, `None` where missing: names as texts, several of a row as lists, numbers as floats."""
    if target.kind in {"binary", "classes"}:
        return _texts(column, target.columns[0])
    if target.kind == "values" and len(target.columns) > 1:
        return list(column.to_pylist())
    if target.kind == "values":
        return [None if math.isnan(value) else value for part in _chunks(column) for value in _floats(part).tolist()]
    given = column.to_pylist()
    return [row if row is None or isinstance(row, list) else [part.strip() for part in str(row).split(target.separator)] for row in given]


def outcomes_of(target: Target, said: Sequence[Any], probability: np.ndarray | None, *, labels: Sequence[Any]) -> tuple[Outcomes, int]:
    """Compare answers with labels.

    Args:
        target: What is predicted.
        said: What each row was answered.
        probability: The classes' probabilities, `[n, k]`.
        labels: The truth, `None` where it is not known.

    Returns:
        The outcomes of rows with a label, and how many labels were set aside as no class that the model knows.

    Raises:
        InputError: There are not as many labels as answers.
    """
    if len(said) != len(labels):
        raise InputError(f"{len(labels)} labels are given for {len(said)} answers", hint="give a label, or null, for each")
    if target.kind == "values":
        return _value_outcomes(said, labels), 0
    if target.kind == "labels":
        return _label_outcomes(target, said, labels), 0
    places = {name: place for place, name in enumerate(target.classes)}
    codes = np.array([-1 if label is None else places.get(str(label), -2) for label in labels], dtype=np.int64)
    known = codes >= 0
    right = np.array([str(one) == str(label) for one, label in zip(said, labels, strict=True)], dtype=np.float64)[known]
    rows = {"accuracy": right}
    if probability is None:
        return Outcomes(rows), int((codes == -2).sum())
    kept = probability[known]
    rows["log_loss"] = -np.log(kept[np.arange(len(kept)), codes[known]].clip(_LEAST, 1.0))
    binary = target.kind == "binary"
    score, truth = (kept[:, 1], codes[known] == 1) if binary else (np.empty(0), np.empty(0, dtype=bool))
    return Outcomes(rows, score, truth), int((codes == -2).sum())


def area(score: np.ndarray, truth: np.ndarray) -> float:
    """Return the area under the ROC curve; NaN where one class has no row."""
    found = int(truth.sum())
    if not 0 < found < len(truth):
        return math.nan
    return float((mid_ranks(score)[truth].sum() - found * (found + 1) / 2) / (found * (len(truth) - found)))


def _value_outcomes(said: Sequence[Any], labels: Sequence[Any]) -> Outcomes:
    known = [place for place, label in enumerate(labels) if label is not None and None not in np.ravel(np.array(label, dtype=object))]
    given = np.array([np.ravel(said[place]) for place in known], dtype=np.float64).reshape(len(known), -1)
    true = np.array([np.ravel(labels[place]) for place in known], dtype=np.float64).reshape(len(known), -1)
    if given.shape != true.shape:
        raise InputError(f"labels have {true.shape[1]} values, answers {given.shape[1]}", hint="give a value for each target column")
    with np.errstate(over="ignore", invalid="ignore"):  # an answer may be no number, and a label any: such a row has no finite error
        errors = given - true
        return Outcomes({"mae": np.abs(errors).mean(axis=1), "mse": (errors**2).mean(axis=1)})


def _label_outcomes(target: Target, said: Sequence[Any], labels: Sequence[Any]) -> Outcomes:
    right = [
        1 - len(set(map(str, one)) ^ set(map(str, label))) / max(len(target.classes), 1)
        for one, label in zip(said, labels, strict=True)
        if label is not None
    ]
    return Outcomes({"accuracy": np.clip(np.array(right, dtype=np.float64), 0, 1)})


def _texts(column: pa.Array | pa.ChunkedArray, name: str) -> list[str | None]:
    found: list[str | None] = []
    for part in _chunks(column):
        texts, places = spell(part, name)
        found += [None if place < 0 else texts[place] for place in places.tolist()]
    return found


def _floats(part: pa.Array) -> np.ndarray:
    values = plain(part)
    return as_float64(values.cast(pa.float64()) if is_text(values.type) else values)


def _chunks(column: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return list(column.chunks) if isinstance(column, pa.ChunkedArray) else [column]
