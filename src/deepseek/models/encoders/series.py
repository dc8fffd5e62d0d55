"""What encoders of series share: one input of steps, of one length or of any, with the mask of what is real.

Legend of shapes: `b` rows · `l` steps · `k` values a step · `w` width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from deepseek.data.padding import mask_name
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.models.base import Encoded, Encoder


class SeriesEncoder(Encoder):
    """Turns one series into one token, or into tokens over time where nothing is pooled.

    Steps come as `[b, l, k]`; where rows are of unequal length, with `NAME_mask` `[b, l]`: what stands behind a row's end changes no number
    of its result. A row's first step counts as real whatever the mask says, so that no row is empty.

    Args:
        inputs: One series of numbers, of the shape `[l, k]`, or ragged with steps of `[k]`.

    Attributes:
        columns: `k`.
        length: `l` where it is fixed, else nothing.

    Raises:
        InputError: There are several inputs, or the one is no series of numbers.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], /) -> None:
        super().__init__(inputs)
        (self.input_name, spec), *others = inputs.items()
        if others or len(spec.shape) != (1 if spec.ragged else 2) or spec.cardinalities:
            raise InputError(
                f"an encoder of series takes one series of numbers, and was given {', '.join(inputs)} of shape {spec.shape}",
                hint="name another encoder for this input under model.encoders",
            )
        self.columns, self.length = spec.shape[-1], None if spec.ragged else spec.shape[0]
        self._mask_name = mask_name(self.input_name) if spec.ragged else None

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Return `[b, 1, w]`, or `[b, l, w]` where nothing is pooled."""
        x = inputs[self.input_name]
        if self._mask_name is None:
            tokens = self.encode(x, torch.ones_like(x[..., 0], dtype=torch.bool)).tokens
            return Encoded(tokens, None)
        given = inputs.get(self._mask_name)
        first = torch.arange(x.shape[1], device=x.device) == 0
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if given is None else given | first
        return self.encode(x.masked_fill(~mask.unsqueeze(-1), 0.0), mask)

    @abstractmethod
    def encode(self, x: Tensor, mask: Tensor) -> Encoded:
        """Return the tokens of steps `[b, l, k]`, zero behind each row's end, with their mask `[b, l]`."""
