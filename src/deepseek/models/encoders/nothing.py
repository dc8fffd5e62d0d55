"""The encoder that reads nothing."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from deepseek.data.transforms.base import InputSpec
from deepseek.models.base import Encoded, Encoder


class NothingEncoder(Encoder):
    """A zero in the place of its inputs: a network that is to do without them, while the data stay what they are.

    What an input is worth shows when the same run goes without it; and a model whose other part does all the work needs no second one.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], /) -> None:
        super().__init__(inputs)
        self.width = 1
        self._first = next(iter(inputs))

    def present(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return that no row has anything: what is left out has no vote in a fusion."""
        return inputs[self._first].new_zeros(inputs[self._first].shape[0]).bool()

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Return zeros `[b, 1, 1]`."""
        x = inputs[self._first]
        return Encoded(x.new_zeros((x.shape[0], 1, 1)).float())
