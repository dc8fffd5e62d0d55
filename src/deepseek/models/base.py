"""The contracts of a network's parts: encoders turn one input into tokens, a fusion joins them, a trunk works on the result.

Legend of shapes: `b` rows · `l` tokens (time steps, patches, columns) · `w` width · `m` members of an ensemble (1 where there is none) ·
`o` outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.models.blocks import Block, blocks_of

Features = Literal["vector", "map", "sequence", "places"]
"""What a network has of a row: one vector, or one for each place of a picture, element of a sequence, or place of several grids."""
_REVISED = "revised"


class Encoded(NamedTuple):
    """What an encoder returns.

    Attributes:
        tokens: `[b, l, w]`.
        mask: Boolean `[b, l]`, true where a token is real; nothing where all are.
    """

    tokens: Tensor
    mask: Tensor | None = None

    def flat(self) -> Tensor:
        """Return a row's tokens one after the other, `[b, l * w]`, with zeros where a token is not real."""
        tokens = self.tokens if self.mask is None else self.tokens * self.mask.unsqueeze(-1)
        return tokens.flatten(1)


class Encoder(nn.Module, ABC):
    """Turns one or several inputs of a batch into tokens.

    Wiring: the encoder's constructor takes the descriptions of its inputs, positional-only, as a mapping by input name.

    Attributes:
        width: `w` of the tokens it returns.
        tokens: `l` where it is fixed, else nothing.
        checkpoint: What its weights were read from, as the key `pretrained` names it; nothing where they are drawn.
        revision: Which way of reckoning this is, counted from 1: one more for each change after which the same weights answer otherwise.
            From 2 on it stands among the weights.
    """

    width: int
    tokens: int | None = 1
    checkpoint: str | None = None
    revision: ClassVar[int] = 1

    def __init__(self, inputs: Mapping[str, InputSpec], /) -> None:
        super().__init__()
        self.inputs = dict(inputs)
        if self.revision > 1:
            self.register_buffer(_REVISED, torch.tensor(self.revision))

    @abstractmethod
    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Return the tokens of a batch.

        Args:
            inputs: The tensors by input name, graph transforms already applied.
        """

    def present(self, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """Return bool `[b]`: which rows have anything to encode at all; nothing where all are taken to.

        Asked only where there are other senses to fall back on; a row has what both its graph transform and its encoder say it has.

        Args:
            inputs: The tensors by input name, as `forward` is given them.
        """
        return None

    def tuning_blocks(self) -> list[Block]:
        """Return its parameters in blocks, from the input upwards: what fine-tuning freezes, unfreezes and gives rates of their own."""
        return blocks_of(self)

    def standing_alone(self) -> dict[str, Any]:
        """Return the keys of its spec without which it could not be built once its checkpoint is gone; a bundle keeps them."""
        return {}


class Fusion(nn.Module, ABC):
    """Joins the tokens of several encoders into one vector a row.

    A token under its mask changes no number of the result. Of a sense that a row lacks no token is real; the row is answered all the same.

    Wiring: the encoders, by name, positional-only.

    Attributes:
        width: The width of the vector.
        linear_behind: Whether nothing but the decision layer may stand behind it.
    """

    width: int
    linear_behind: ClassVar[bool] = False

    def __init__(self, encoders: Mapping[str, Encoder], /) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Return `[b, w]`."""


class Trunk(nn.Module, ABC):
    """Works on one vector a row; may return several members' opinions.

    Wiring: the width of the vector that comes in, positional-only.

    Attributes:
        width: `w` of what goes out.
        members: `m` of what goes out.
    """

    width: int
    members: int = 1

    def __init__(self, width_in: int, /) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, width_in]` to `[b, m, width]`."""

    def chain(self) -> Sequence[nn.Module]:
        """Return modules whose composition is `forward`: where a pipeline may cut the trunk; itself where it is of one piece."""
        return [self]


def other_revisions(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Return the encoders that reckon in another way than when weights were learned, in words.

    Args:
        wanted: The tensors of a network as it is built now, by name.
        given: The weights.
    """
    names = sorted({name for name in {*wanted, *given} if name.rpartition(".")[2] == _REVISED})
    revisions = {name: tuple(int(tensors[name]) if name in tensors else 1 for tensors in (given, wanted)) for name in names}
    return [f"{name.rpartition('.')[0]} is revision {new}, not {old}" for name, (old, new) in revisions.items() if old != new]
