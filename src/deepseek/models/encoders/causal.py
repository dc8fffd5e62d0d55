"""What encoders that read from left to right share: they can be asked for one token after the other, and may remember earlier windows.

Legend of shapes: `b` rows · `l` tokens of this window · `m` remembered tokens · `w` width · `n` lanes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from deepseek.data.token_windows import first_name, lane_name
from deepseek.data.transforms.base import InputSpec
from deepseek.models.encoders.text import TextEncoder

Past = tuple[Tensor, ...]
"""What an encoder keeps of the tokens that it has read: tensors `[b, m, …]`, or `[b, h, m, d]`."""


class CausalTextEncoder(TextEncoder):
    """Turns each token into a vector that hangs on the tokens before it and on none after it: what predicts a next token.

    Windows of one long text come with their lane (`NAME_lane`, bool `[b, n]`: true at the row's lane) and with `NAME_first` (bool `[b]`:
    whether a lane begins here): an encoder that remembers goes on where the lane's window before ended. Without lanes nothing is
    remembered.

    Args:
        inputs: One ragged input of kind `text`, whose only cardinality is the size of the vocabulary.
        token_dropout: The share of tokens that are read as unknown while training, in [0, 1).

    Attributes:
        embedding: The tokens' vectors.
        span: The most tokens that it can read at once, the remembered ones counted; nothing where there is no bound.
        remembers: Whether windows are to come in order, as what it has read before counts.
    """

    embedding: nn.Embedding
    span: int | None = None
    remembers: bool = False
    causal: ClassVar[bool] = True

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, token_dropout: float = 0.0) -> None:
        super().__init__(inputs, token_dropout=token_dropout)
        self.lane_name, self.first_name = lane_name(self.input_name), first_name(self.input_name)

    @abstractmethod
    def extend(self, ids: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Read on: return the vectors `[b, l, w]` of further ids `[b, l]`, and what is to be kept of everything read.

        Args:
            ids: The ids, none of them padding.
            past: What was kept of the tokens before; nothing at the beginning.
        """

    def carried(self, lanes: int) -> dict[str, Tensor]:
        """Return what training remembers of so many lanes, by name; of lanes that were not read here it is zeros."""
        return {}

    def carry(self, tensors: Mapping[str, Tensor], own: range | None = None) -> None:
        """Take up what `carried` returned, so that training goes on as if it had not been interrupted.

        Args:
            tensors: What it returned.
            own: The lanes that are read here; of others zeros are taken up. All where not given.
        """
