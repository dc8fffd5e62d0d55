"""The fusion that puts vectors side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deepseek.models.base import Encoded, Encoder, Fusion
from deepseek.models.fusion.parts import fixed, vector_of, widths


class ConcatFusion(Fusion):
    """Puts the encoders' vectors side by side.

    An encoder with a fixed number of tokens is flattened; one whose number varies is averaged over its real tokens. A sense that a row
    lacks is zeros.

    Args:
        encoders: The encoders, by name, in the order of the vector.
    """

    def __init__(self, encoders: Mapping[str, Encoder], /) -> None:
        super().__init__(encoders)
        self._fixed = fixed(encoders)
        self.width = sum(widths(encoders).values())

    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Return `[b, w]`."""
        return torch.cat([vector_of(encoded[name], is_fixed=is_fixed) for name, is_fixed in self._fixed.items()], dim=-1)
