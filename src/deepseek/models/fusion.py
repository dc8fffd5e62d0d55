"""Fusions: how the tokens of several encoders become one vector a row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deepseek.models.base import Encoded, Encoder, Fusion


class ConcatFusion(Fusion):
    """Puts the encoders' vectors side by side.

    An encoder with a fixed number of tokens is flattened; one whose number varies is averaged over its real tokens.

    Args:
        encoders: The encoders, by name, in the order of the vector.
    """

    def __init__(self, encoders: Mapping[str, Encoder], /) -> None:
        super().__init__(encoders)
        self._fixed = {name: encoder.tokens is not None for name, encoder in encoders.items()}
        self.width = sum(encoder.width * (encoder.tokens or 1) for encoder in encoders.values())

    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Return `[b, w]`."""
        return torch.cat([_flatten(encoded[name]) if fixed else _mean(encoded[name]) for name, fixed in self._fixed.items()], dim=-1)


def _flatten(part: Encoded) -> Tensor:
    tokens = part.tokens if part.mask is None else part.tokens * part.mask.unsqueeze(-1)
    return tokens.flatten(1)


def _mean(part: Encoded) -> Tensor:
    if part.mask is None:
        return part.tokens.mean(dim=1)
    real = part.mask.unsqueeze(-1).to(part.tokens.dtype)
    return (part.tokens * real).sum(dim=1) / real.sum(dim=1).clamp(min=1.0)
