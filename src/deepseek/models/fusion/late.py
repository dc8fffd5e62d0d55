"""Late fusion: each sense decides for itself, and the decisions are averaged.

Legend of shapes: `b` rows · `w` width · `s` senses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from deepseek.models.base import Encoded, Encoder, Fusion
from deepseek.models.fusion.parts import fixed, present, vector_of, widths
from deepseek.models.layers import Width


class LateFusion(Fusion):
    """The mean of what each sense says alone, over the senses that a row has.

    Behind it stands the linear decision layer and nothing else, so the decision on the mean is the mean of a decision (of its logits) for
    each sense: no sense has a say in how another is read. A sense that a row lacks has no vote.

    Source: Kittler et al., "On Combining Classifiers", IEEE TPAMI 1998, https://doi.org/10.1109/34.667881: means and products of decisions.

    Args:
        encoders: The encoders, by name.
        width: The width of what each sense says; at least the outputs of the task.
        weights: `equal`, or `learned`: a weight for each sense, which sum to 1 over those that a row has.
    """

    linear_behind: ClassVar[bool] = True

    def __init__(self, encoders: Mapping[str, Encoder], /, *, width: Width = 64, weights: Literal["equal", "learned"] = "learned") -> None:
        super().__init__(encoders)
        self._fixed = fixed(encoders)
        self.width = width
        sizes = widths(encoders).values()
        self.says = nn.ModuleList(nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width)) for size in sizes)
        self.votes = nn.Parameter(torch.zeros(len(self._fixed))) if weights == "learned" else None

    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Return `[b, w]`."""
        said = [layer(vector_of(encoded[name], is_fixed=one)) for layer, (name, one) in zip(self.says, self._fixed.items(), strict=True)]
        return (torch.stack(said, dim=1) * self.shares(encoded).unsqueeze(-1)).sum(dim=1)

    def shares(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Return `[b, s]`: how much each sense's decision counts in each row; 1 in all, or 0 where a row has none."""
        there = present(encoded, list(self._fixed))
        votes = torch.zeros(there.shape[1], device=there.device) if self.votes is None else self.votes.float()
        weight = votes.softmax(dim=0) * there
        return weight / weight.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
