"""Gated fusion: for each row and each number, how much of each sense goes in.

Legend of shapes: `b` rows · `w` width · `s` senses.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from deepseek.models.base import Encoded, Encoder, Fusion
from deepseek.models.fusion.parts import Absent, fixed, present, vector_of, widths
from deepseek.models.layers import Width


class GatedFusion(Fusion):
    """The gated multimodal unit: each sense's vector is brought to one width, and gates that see all senses weigh them.

    `h = Σ σ(Z_i [x_1 … x_s]) · tanh(W_i x_i)`. A sense that a row lacks is zeros to the gates, and a learned vector stands for what it
    would have said.

    Source: Arevalo et al., "Gated Multimodal Units for Information Fusion", 2017, https://arxiv.org/abs/1702.01992.

    Args:
        encoders: The encoders, by name.
        width: The width of the result.
    """

    def __init__(self, encoders: Mapping[str, Encoder], /, *, width: Width = 128) -> None:
        super().__init__(encoders)
        self._fixed = fixed(encoders)
        self.width = width
        sizes = list(widths(encoders).values())
        self.says = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        self.gates = nn.Linear(sum(sizes), width * len(sizes))
        self.absent = Absent(len(sizes), width)

    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Return `[b, w]`."""
        vectors = [vector_of(encoded[name], is_fixed=is_fixed) for name, is_fixed in self._fixed.items()]
        said = torch.stack([torch.tanh(layer(vector)) for layer, vector in zip(self.says, vectors, strict=True)], dim=1)
        said = self.absent(said, present(encoded, list(self._fixed)))
        gates = torch.sigmoid(self.gates(torch.cat(vectors, dim=-1))).view(-1, len(vectors), self.width)
        out: Tensor = (gates * said).sum(dim=1)
        return out
