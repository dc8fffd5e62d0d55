"""Convolutions for series: residual blocks that see twice as far each, then attention over the steps.

Legend of shapes: `b` rows · `l` steps · `k` values a step · `w` width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.models.base import Encoded
from deepseek.models.encoders.series import SeriesEncoder
from deepseek.models.encoders.text import Pooling, make_pooling, pooled
from deepseek.models.layers import ActivationName, Depth, Probability, Width, make_activation, width_behind


class SeriesCnnEncoder(SeriesEncoder):
    """Residual blocks of dilated convolutions over the steps, each normalised step by step, then attention over the steps.

    Block `i` looks `2^i` steps apart, so that a few blocks see a long stretch. Looking to both sides, a step's answer hangs on what comes
    after it as well: the whole series is there. Zeros stand behind each row's end in every layer, and normalisation is over a step's own
    channels, so that padding has no part in anything.

    Source: Bai, Kolter and Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling", 2018,
    https://arxiv.org/abs/1803.01271, with convolutions that look to both sides.

    Args:
        width: The width of every block and of the result.
        depth: How many blocks; the last sees `2^depth · (kernel - 1)` steps and more.
        kernel: How many steps a convolution takes in, an odd number.
        pool: How the steps become one vector: `attention`, `mean`, `max`, `first`, or `none` for all of them.
        activation: `relu`, `gelu`, `silu`, or an operator.
        dropout: The share of values dropped at the end of every block and behind the pooling, in [0, 1).

    Raises:
        InputError: The input is no series, or `kernel` is even.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        width: Width = 64,
        depth: Depth = 4,
        kernel: Annotated[int, Ge(1)] = 5,
        pool: Pooling = "attention",
        activation: ActivationName = "gelu",
        dropout: Probability = 0.1,
    ) -> None:
        super().__init__(inputs)
        if kernel % 2 == 0:
            raise InputError(f"kernel is {kernel}", hint="give an odd number: as many steps before as behind")
        self.stem = nn.Linear(self.columns, width)
        self.blocks = nn.ModuleList(_Block(width, kernel, 1 << place, activation=activation, dropout=dropout) for place in range(depth))
        self.norm, self.dropout, self.pooling = nn.LayerNorm(width), nn.Dropout(dropout), make_pooling(width, pool)
        self.width = width
        self.tokens = self.length if pool == "none" else 1

    def encode(self, x: Tensor, mask: Tensor) -> Encoded:
        """Return `[b, 1, w]`, or `[b, l, w]` where nothing is pooled."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, mask)
        encoded = pooled(self.pooling, self.norm(x), mask)
        return Encoded(self.dropout(encoded.tokens), encoded.mask)


class _Block(nn.Module):
    """`x + out(activation(convolution(norm(x))))` over `[b, l, w]`."""

    def __init__(self, width: int, kernel: int, dilation: int, *, activation: ActivationName, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, width, kernel, dilation=dilation, padding=dilation * (kernel // 2))
        self.activation, self.dropout = make_activation(activation, width), nn.Dropout(dropout)
        self.out = nn.Linear(width_behind(self.activation, width), width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the same shape."""
        inner = self.norm(x).masked_fill(~mask.unsqueeze(-1), 0.0)
        seen = self.convolution(inner.transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.dropout(self.out(self.activation(seen)))
        return out
