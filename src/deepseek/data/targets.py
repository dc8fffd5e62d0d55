"""What is to be predicted, as arrays: class codes, 0/1 labels or values, fitted on training rows only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

TargetKind = Literal["binary", "classes", "labels", "values"]


@dataclass(frozen=True)
class TargetSpec:
    """What a task has to know of its target.

    Attributes:
        kind: `binary` (one column, two classes), `classes` (one column, several), `labels` (any number of true labels a row),
            `values` (one or several numbers).
        columns: The target columns.
        classes: The class or label names, as the table spells them; for `binary` the second is the positive one. Empty for `values`.
        counts: How many training rows have each class or label (weights not counted).
        rows: How many training rows have a target.
        mean: For `values`, each column's mean over the training rows.
        std: For `values`, each column's standard deviation over the training rows (1 where it would be 0).
        integer_classes: Whether the table holds the class names as numbers, so that answers must be numbers again.
    """

    kind: TargetKind
    columns: tuple[str, ...]
    classes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    rows: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    integer_classes: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the description as plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TargetSpec:
        """Return the description that `to_json` wrote."""
        return cls(**{key: tuple(item) if isinstance(item, list) else item for key, item in value.items()})
