"""The multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from deepseek.models.base import Trunk
from deepseek.models.layers import (
    ActivationName,
    Depth,
    NormalizationName,
    Probability,
    Reshaped,
    ResidualEvery,
    WayRound,
    Width,
    checked_residual,
    make_activation,
    make_normalization,
    width_behind,
)


class MlpTrunk(Trunk):
    """A stack of blocks: linear, normalisation, activation, dropout; with residual connections around every few blocks where wanted.

    A residual connection adds what came into a group of blocks to what goes out of it (He et al., 2015, https://arxiv.org/abs/1512.03385);
    the first group, whose width changes, has a linear map on the way round.

    Args:
        depth: How many blocks.
        width: The width of every block.
        dropout: The share of values dropped after each block, in [0, 1).
        normalization: `none`, `batch`, `layer` or `group` (of 8).
        activation: `relu`, `gelu`, `silu`, or an operator.
        residual_every: A residual connection around every so many blocks; 0 for none. Blocks left over at the end have none.

    Raises:
        InputError: `residual_every` is more than `depth`, so that no connection would be made.
    """

    def __init__(
        self,
        width_in: int,
        /,
        *,
        depth: Depth = 3,
        width: Width = 256,
        dropout: Probability = 0.1,
        normalization: NormalizationName = "none",
        activation: ActivationName = "relu",
        residual_every: ResidualEvery = 0,
    ) -> None:
        super().__init__(width_in)
        self.residual_every = checked_residual(residual_every, depth)
        self.blocks, self.width = nn.ModuleList(), width_in
        for _ in range(depth):
            layers = [nn.Linear(self.width, width), make_normalization(normalization, width), make_activation(activation, width)]
            self.blocks.append(nn.Sequential(*layers, nn.Dropout(dropout)))
            self.width = width_behind(layers[-1], width)
        bypass = residual_every > 0 and width_in != self.width
        self.bypass: nn.Module = nn.Linear(width_in, self.width, bias=False) if bypass else nn.Identity()

    def chain(self) -> Sequence[nn.Module]:
        """Return the blocks, those with a way round together."""
        every, blocks = self.residual_every, list(self.blocks)
        if not every:
            return [*blocks, Reshaped("one_member")]
        whole = len(blocks) // every * every
        groups = [WayRound(blocks[start : start + every], None if start else self.bypass) for start in range(0, whole, every)]
        return [*groups, *blocks[whole:], Reshaped("one_member")]

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, width_in]` to `[b, 1, width]`, or as much of it as the activation leaves."""
        way_round: Tensor = self.bypass(x)
        for index, block in enumerate(self.blocks, start=1):
            x = block(x)
            if self.residual_every and index % self.residual_every == 0:
                x = way_round = x + way_round
        return x.unsqueeze(1)
