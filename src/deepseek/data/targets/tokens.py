"""The next token of a text: what a language model predicts stands in its own input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from deepseek.data.targets.base import TargetTransform
from deepseek.data.targets.spec import TargetSpec
from deepseek.data.transforms.tokens import TokensTransform
from deepseek.errors import InputError
from deepseek.fields import Field, Kind, TargetKind

if TYPE_CHECKING:
    import pyarrow as pa

    from deepseek.data.transforms.base import Array, Transform


class TokensTarget(TargetTransform):
    """Takes no column of its own: the target is the one text among the inputs, each token being what comes after those before it.

    Args:
        fields: Nothing.
    """

    kind: ClassVar[TargetKind] = "tokens"
    in_inputs = True
    transforms: ClassVar[Mapping[Kind, str]] = {Kind.TEXT: "tokens"}

    def __init__(self, fields: Sequence[Field], /) -> None:
        if fields:
            raise InputError(f"a language model is given the target {fields[0].name!r}", hint="its text is an input: leave data.target out")
        super().__init__(fields)
        self._rows = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Nothing: there is no array of its own."""
        return ()

    def missing(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: no row lacks what stands in its text."""
        return np.zeros(batch.num_rows, dtype=bool)

    def observe(self, batch: pa.RecordBatch) -> None:
        """Count the rows."""
        self._rows += batch.num_rows

    def finish(self) -> None:
        """Do nothing: the transform of the text learns the tokens."""

    def follow(self, transforms: Sequence[Transform]) -> None:
        """Take over the text's name, its tokens and how many characters each stands for.

        Raises:
            InputError: There is no text among the inputs, or something beside it.
        """
        texts = [transform for transform in transforms if isinstance(transform, TokensTransform)]
        if len(texts) != 1 or len(transforms) != 1:
            names = ", ".join(repr(str(transform.name)) for transform in transforms)
            raise InputError(f"a language model reads one text, and the inputs are {names}", hint="leave other columns out with data.drop")
        (text,) = texts
        self._set(TargetSpec("tokens", (str(text.name),), rows=self._rows, lengths=text.lengths()))

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return nothing: the tokens stand among the inputs."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """Return how many rows there were; all else is the text's."""
        return {"rows": self._rows}

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._rows = int(state["rows"])
        return self
