"""The residual network for tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Gt
from torch import Tensor, nn

from deepseek.models.base import Trunk
from deepseek.models.layers import (
    ActivationName,
    Depth,
    NormalizationName,
    Probability,
    Reshaped,
    WayRound,
    Width,
    make_activation,
    make_normalization,
    width_behind,
)


class ResidualTrunk(Trunk):
    """Pre-normalised residual blocks of two linear layers: the strong plain baseline for tables.

    Source: Gorishniy, Rubachev, Khrulkov and Babenko, "Revisiting Deep Learning Models for Tabular Data", NeurIPS 2021,
    https://arxiv.org/abs/2106.11959.

    Args:
        depth: How many blocks.
        width: The width between the blocks.
        expansion: The width inside a block, as a multiple of `width`.
        dropout: The share of values dropped inside a block, in [0, 1).
        residual_dropout: The share of values dropped at a block's end, in [0, 1).
        normalization: `batch`, as in the paper, `layer`, `group` (of 8) or `none`.
        activation: `relu`, `gelu`, `silu`, or an operator.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        width_in: int,
        /,
        *,
        depth: Depth = 3,
        width: Width = 256,
        expansion: Annotated[float, Gt(0.0)] = 2.0,
        dropout: Probability = 0.2,
        residual_dropout: Probability = 0.0,
        normalization: NormalizationName = "batch",
        activation: ActivationName = "relu",
    ) -> None:
        super().__init__(width_in)
        hidden = max(1, round(width * expansion))
        self.stem = nn.Linear(width_in, width)
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            layers = [make_normalization(normalization, width), nn.Linear(width, hidden), make_activation(activation, hidden)]
            behind = width_behind(layers[-1], hidden)
            self.blocks.append(nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(behind, width), nn.Dropout(residual_dropout)))
        self.last = nn.Sequential(make_normalization(normalization, width), make_activation(activation, width))
        self.width = width_behind(self.last[-1], width)

    def chain(self) -> Sequence[nn.Module]:
        """Return the stem, each block with its way round, and the end."""
        return [self.stem, *(WayRound([block]) for block in self.blocks), self.last, Reshaped("one_member")]

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, width_in]` to `[b, 1, width]`."""
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        out: Tensor = self.last(x)
        return out.unsqueeze(1)
