"""The contract of every kind of target: columns become what a loss compares a network's outputs with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from deepseek.data.targets.spec import TargetSpec, require_plain
from deepseek.errors import InputError
from deepseek.fields import Field, Kind, TargetKind

if TYPE_CHECKING:
    import pyarrow as pa

    from deepseek.data.transforms.base import Array, InputSpec, Transform


class TargetTransform(ABC):
    """Turns the target columns into arrays, fitted on training rows only.

    It sees the training rows (`observe`, `finish`), then the fitted transforms of the inputs (`follow`), whose size or tokens it may share;
    after that `apply` makes arrays of rows of any origin.

    Args:
        fields: The target columns.

    Attributes:
        kind: The name of this kind of target.
        columns: The names of the target columns.
        separator: What stands between the labels of one text.
        in_inputs: Whether it has no columns of its own, as what is to be predicted stands among the inputs.
        transforms: What treats inputs of a kind beside such a target, unless the recipe says otherwise.
        warnings: What the user should know of the training rows; known after `follow`.
    """

    kind: ClassVar[TargetKind]
    in_inputs: ClassVar[bool] = False
    transforms: ClassVar[Mapping[Kind, str]] = {}
    warnings: tuple[str, ...] = ()
    separator: str = ","

    def __init__(self, fields: Sequence[Field], /) -> None:
        self.fields = tuple(fields)
        self.columns = tuple(field.name for field in fields)
        self._spec: TargetSpec | None = None

    @property
    def spec(self) -> TargetSpec:
        """What a task has to know; known after `finish` or `load_json`."""
        if self._spec is None:
            raise InputError("the target is not fitted", hint="call observe and finish, or load_json, first")
        return self._spec

    @property
    def names(self) -> tuple[str, ...]:
        """The keys of what `apply` returns: one, `target`."""
        return ("target",)

    @property
    def described(self) -> dict[str, InputSpec]:
        """What augmentations have to know of targets that have a place in the picture, by their names in a batch; nothing for others."""
        return {}

    @abstractmethod
    def missing(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: true where a row has no target; such rows can neither be trained nor measured on."""

    def unseen(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: true where a class or label was not among the training rows (missing targets are not)."""
        return np.zeros(batch.num_rows, dtype=bool)

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: true where `apply` cannot read the target (a broken file); asked only after it has failed."""
        return np.zeros(batch.num_rows, dtype=bool)

    @abstractmethod
    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at a batch of training rows that have a target."""

    @abstractmethod
    def finish(self) -> None:
        """Settle what was to be learned.

        Raises:
            DataError: There is nothing to predict.
        """

    def follow(self, transforms: Sequence[Transform]) -> None:
        """Take over from the fitted transforms of the inputs what the target shares with them: a size, a vocabulary.

        Raises:
            InputError: There is no input that the target could belong to.
        """

    @abstractmethod
    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return the arrays of a batch by name, each `[rows, …]` or ragged.

        Raises:
            DataError: A class was not among the training rows, or a target is missing or cannot be read.
        """

    def placed(self, answers: pa.Table, batch: pa.RecordBatch) -> pa.Table:
        """Return answers with what only the rows themselves can tell, such as where in a text a word stands.

        Args:
            answers: What a task's `answer` gave for the batch.
            batch: The rows, as they were given.
        """
        return answers

    def beside_answers(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Return what answers need of the rows themselves beside what a network says, by name, each `[rows, …]`: nothing for most."""
        return {}

    def take_left_out(self) -> list[str]:
        """Return what `apply` has left out of targets since this was last asked, in words: nothing for most."""
        return []

    def columns_for_means(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return the target as float64 `[rows, k]`, as `Transform.observe_target` takes it.

        Raises:
            InputError: The target has no mean.
        """
        require_plain(self.kind, "target encoding", hint="choose another encoding for the categories")
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Return what was fitted."""
        return self.spec.to_json()

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._set(TargetSpec.from_json(state))
        return self

    def _set(self, spec: TargetSpec) -> None:
        self._spec = spec
