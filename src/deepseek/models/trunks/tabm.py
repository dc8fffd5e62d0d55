"""TabM: many perceptrons in one, sharing almost all weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor, nn

from deepseek.models.base import Trunk
from deepseek.models.layers import (
    ActivationName,
    BatchEnsembleLinear,
    Depth,
    MemberLinear,
    Probability,
    Reshaped,
    SharedDropout,
    Width,
    as_autocast,
    make_activation,
    member_scales,
    width_behind,
)


class TabMTrunk(Trunk):
    """An ensemble of perceptrons trained at once, whose members are answers of one network.

    Each member has the loss and the decision layer to itself, and predictions are averaged; the shared weights make the members regularise
    each other, which is where the gain over one perceptron comes from. Among networks for tables it is the best known default for its cost.

    Source: Gorishniy, Kotelnikov and Babenko, "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling", ICLR 2025,
    https://arxiv.org/abs/2410.24210.

    Args:
        members: How many members.
        depth: How many blocks (linear, activation, dropout).
        width: The width of every block.
        dropout: The share of values dropped after each block, in [0, 1).
        variant: `full` (every layer has scales and biases for each member), `mini` (only the input is scaled for each member, all layers
            are shared), or `packed` (nothing is shared: independent perceptrons in one product).
        scale_init: How the first scales begin: random `signs`, or `normal`, which the paper takes behind numeric embeddings.
        shared_dropout: Whether all members of a row drop the same values; cheaper, as most random numbers need not be drawn.
        activation: `relu`, `gelu`, `silu`, or an operator.
    """

    no_decay = frozenset({"scale"})

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        width_in: int,
        /,
        *,
        members: Annotated[int, Ge(1)] = 32,
        depth: Depth = 3,
        width: Width = 512,
        dropout: Probability = 0.1,
        variant: Literal["full", "mini", "packed"] = "full",
        scale_init: Literal["signs", "normal"] = "signs",
        shared_dropout: bool = False,
        activation: ActivationName = "relu",
    ) -> None:
        super().__init__(width_in)
        self.width, self.members = width_in, members
        self.scale = nn.Parameter(member_scales(members, width_in, scale_init)) if variant == "mini" else None
        self.blocks = nn.ModuleList()
        for index in range(depth):
            before = self.width
            layer: nn.Module
            if variant == "full":
                layer = BatchEnsembleLinear(members, before, width, scale_in="ones" if index else scale_init)
            else:
                layer = nn.Linear(before, width) if variant == "mini" else _Packed(members, before, width)
            drop = SharedDropout(dropout) if shared_dropout else nn.Dropout(dropout)
            between = make_activation(activation, width)
            self.blocks.append(nn.Sequential(layer, between, drop))
            self.width = width_behind(between, width)

    def chain(self) -> Sequence[nn.Module]:
        """Return the spreading over the members, the blocks, and the order of dimensions that the head takes."""
        return [_Spread(self), *self.blocks, Reshaped("members_first")]

    def spread(self, x: Tensor) -> Tensor:
        """Map `[b, i]` to `[m, b, i]`."""
        x = as_autocast(x).unsqueeze(0)
        # `expand` copies nothing; the scales of the first layer make the members differ.
        return x.expand(self.members, -1, -1) if self.scale is None else x * self.scale.to(x.dtype).unsqueeze(1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, width_in]` to `[b, m, width]`."""
        x = self.spread(x)
        for block in self.blocks:
            x = block(x)
        return x.transpose(0, 1)


class _Spread(nn.Module):
    """The beginning of a trunk with members: one vector a row for each of them."""

    def __init__(self, trunk: TabMTrunk) -> None:
        super().__init__()
        self.scale, self._spread = trunk.scale, trunk.spread

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, i]` to `[m, b, i]`."""
        return self._spread(x)


class _Packed(MemberLinear):
    def forward(self, x: Tensor) -> Tensor:
        """Map `[m, b, i]` to `[m, b, o]`."""
        return super().forward(x.transpose(0, 1)).transpose(0, 1)
