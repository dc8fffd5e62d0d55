"""What the fusions share: a sense's tokens as one vector, whether there are any, and a vector in the place of a missing one.

Legend of shapes: `b` rows · `l` tokens · `w` width · `s` senses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from deepseek.models.base import Encoded, Encoder


def widths(encoders: Mapping[str, Encoder]) -> dict[str, int]:
    """Return how wide each encoder's tokens are as one vector."""
    return {name: encoder.width * (encoder.tokens or 1) for name, encoder in encoders.items()}


def fixed(encoders: Mapping[str, Encoder]) -> dict[str, bool]:
    """Return which encoders have a fixed number of tokens."""
    return {name: encoder.tokens is not None for name, encoder in encoders.items()}


def vector_of(part: Encoded, *, is_fixed: bool) -> Tensor:
    """Return tokens as one vector `[b, w]`: flattened where their number is fixed, else their mean; zeros where a row has none.

    Args:
        part: The tokens.
        is_fixed: Whether their number is fixed.
    """
    return part.flat() if is_fixed else mean_of(part)


def mean_of(part: Encoded) -> Tensor:
    """Return the mean over the real tokens, `[b, w]`; zeros where a row has none."""
    if part.mask is None:
        return part.tokens.mean(dim=1)
    real = part.mask.unsqueeze(-1).to(part.tokens.dtype)
    return (part.tokens * real).sum(dim=1) / real.sum(dim=1).clamp(min=1.0)


def mask_of(part: Encoded) -> Tensor:
    """Return the mask `[b, l]`, true throughout where a part has none."""
    return torch.ones(part.tokens.shape[:2], dtype=torch.bool, device=part.tokens.device) if part.mask is None else part.mask


def present(encoded: Mapping[str, Encoded], names: Sequence[str]) -> Tensor:
    """Return bool `[b, s]`: which rows have any token of each sense."""
    return torch.stack([mask_of(encoded[name]).any(dim=1) for name in names], dim=1)


class Absent(nn.Module):
    """A learned vector for each sense, which stands in its place in the rows that lack it; it begins at zero.

    That a sense is missing may itself say something (a report that nobody wrote), and the vector is where that is learned.

    Args:
        senses: How many.
        width: `w`.
    """

    no_decay = frozenset({"vectors"})

    def __init__(self, senses: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(senses, width))

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """Return `[b, s, w]` with the learned vectors where `there` `[b, s]` is false."""
        return torch.where(there.unsqueeze(-1), x, self.vectors.to(x.dtype))
