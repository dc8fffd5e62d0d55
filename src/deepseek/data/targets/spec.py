"""What a task has to know of its target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deepseek.errors import InputError
from deepseek.fields import TargetKind

PLAIN_KINDS: frozenset[TargetKind] = frozenset({"binary", "classes", "labels", "values"})
"""The kinds of which a row has one class, one set of labels, or some numbers."""


@dataclass(frozen=True)
class TargetSpec:
    """What a task has to know of its target.

    Attributes:
        kind: `binary` (one column, two classes), `classes` (one column, several), `labels` (any number of true labels a row),
            `values` (one or several numbers), `mask` (a class for each pixel or voxel), `boxes` (any number of boxes, each with a class),
            `tokens` (each next token of a text), `tags` (a class for each word), `features` (nothing: what the network makes of a row).
        columns: The target columns.
        classes: The class or label names, as the table spells them; for `binary` the second is the positive one. Empty for `values`.
        counts: How many training rows have each class or label (weights not counted).
        rows: How many training rows have a target.
        mean: For `values`, each column's mean over the training rows.
        std: For `values`, each column's standard deviation over the training rows, above 0.
        integer_classes: Whether the table holds the class names as numbers, so that answers must be numbers again.
        shape: One row's shape as a batch holds it, where that is more than one number: `(height, width)` of a mask, or of the picture that
            boxes are in.
        lengths: For `tokens`, how many characters each id stands for.
    """

    kind: TargetKind
    columns: tuple[str, ...]
    classes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    rows: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    integer_classes: bool = False
    shape: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether a row's target is one class, a set of labels or some numbers, so that one answer is right or wrong as a whole."""
        return self.kind in PLAIN_KINDS

    def to_json(self) -> dict[str, Any]:
        """Return the description as plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TargetSpec:
        """Return the description that `to_json` wrote."""
        arguments: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
        return cls(**arguments)


def require_plain(kind: str, what: str, *, hint: str) -> None:
    """See that a target is one class, a set of labels or some numbers a row, where something makes sense for such targets alone.

    Args:
        kind: The target's kind.
        what: What needs it, in words that begin a sentence.
        hint: What to do instead.

    Raises:
        InputError: The target is of another kind.
    """
    if kind not in PLAIN_KINDS:
        raise InputError(f"{what} needs one class, labels or numbers a row, and the target is of kind {kind!r}", hint=hint)
