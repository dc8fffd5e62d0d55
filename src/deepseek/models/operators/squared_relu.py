"""The squared rectifier."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from deepseek.models.operators.base import Operator


class SquaredReluOperator(Operator):
    """`max(x, 0)²`: a rectifier whose slope grows, so that few values carry much.

    In language models of 2021 it reached the same loss as GELU with fewer steps.

    Source: So et al., "Primer: Searching for Efficient Transformers for Language Modeling", NeurIPS 2021, https://arxiv.org/abs/2109.08668.
    """

    pointwise = True

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor of any shape."""
        return functional.relu(x).square()
