"""What all encoders of texts share: one ragged input of token ids, a mask, vectors of tokens, pooling.

Legend of shapes: `b` rows · `l` tokens of the longest text · `w` width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from torch import Tensor, nn

from deepseek.data.padding import mask_name
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.base import Encoded, Encoder

PADDING, UNKNOWN, MISSING = 0, 1, 3
Pooling = Literal["attention", "mean", "max", "first", "none"]
Scale = Annotated[float, Gt(0.0)]


class TextEncoder(Encoder):
    """Turns one text into one token, or into a token for each of its own where nothing is pooled.

    The text comes as ids `[b, l]`, 0 behind each row's end, with `NAME_mask` `[b, l]`, true where a token is real; without the mask, ids of
    0 are padding. What stands behind a row's end changes no number of its result, however much of it there is. A row's first token counts
    as real whatever the mask says (texts begin with a start token), so that no row is empty and nothing is divided by zero.

    Args:
        inputs: One ragged input of kind `text`, whose only cardinality is the size of the vocabulary.
        token_dropout: The share of tokens that are read as unknown while training, in [0, 1) (word dropout: Iyyer et al., ACL 2015,
            https://aclanthology.org/P15-1162/); it is also what teaches the vector of unknown tokens.

    Raises:
        InputError: The input is no text, or there is more than one.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, token_dropout: float = 0.0) -> None:
        super().__init__(inputs)
        if len(inputs) != 1:
            raise InputError(f"an encoder of texts is given {len(inputs)} inputs: {', '.join(inputs)}", hint="it takes one")
        (spec,) = inputs.values()
        if spec.kind is not Kind.TEXT or not spec.ragged or spec.shape or len(spec.cardinalities) != 1:
            raise InputError(
                f"the input {spec.name!r} of kind {spec.kind.value!r} is no text of token ids",
                hint="this encoder takes ragged ids and the size of their vocabulary",
            )
        self.input_name, self.mask_name = spec.name, mask_name(spec.name)
        self.vocabulary_size = spec.cardinalities[0]
        self.token_dropout = token_dropout

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Return `[b, 1, width]`, or `[b, l, width]` where nothing is pooled."""
        return self.encode(*self.read(inputs))

    def present(self, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """Return which rows have a text: one that is missing is the id 3, which no text contains."""
        return (inputs[self.input_name] != MISSING).all(dim=1)

    @abstractmethod
    def encode(self, ids: Tensor, mask: Tensor) -> Encoded:
        """Return the tokens of ids `[b, l]` with their mask `[b, l]`."""

    def read(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the ids `[b, l]`, 0 where nothing is, and the mask `[b, l]`."""
        ids = inputs[self.input_name]
        mask = inputs.get(self.mask_name, ids != PADDING)
        mask = mask | (torch.arange(ids.shape[1], device=ids.device) == 0)
        if self.training and self.token_dropout:
            ids = ids.masked_fill(torch.rand(ids.shape, device=ids.device) < self.token_dropout, UNKNOWN)
        return ids.masked_fill(~mask, PADDING), mask


def token_vectors(count: int, width: int, scale: float) -> nn.Embedding:
    """Return a table of normal vectors of deviation `scale`; padding is zero and stays zero."""
    table = nn.Embedding(count, width, padding_idx=PADDING)
    nn.init.normal_(table.weight, std=scale)
    with torch.no_grad():
        table.weight[PADDING] = 0.0
    return table


class TokenPooling(nn.Module):
    """Turns the tokens of a row into one vector.

    `attention` is additive attention with a learned query: `softmax(v · tanh(W h + b))` weighs the tokens (Bahdanau et al., 2015,
    https://arxiv.org/abs/1409.0473; for texts Yang et al., 2016, https://aclanthology.org/N16-1174/).

    Args:
        width: `w`.
        how: `attention`, `mean`, `max`, or `first`, the start token.
    """

    def __init__(self, width: int, how: Literal["attention", "mean", "max", "first"]) -> None:
        super().__init__()
        self.how = how
        self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False)) if how == "attention" else None

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Map `[b, l, w]` and a mask `[b, l]` with a real token in each row to `[b, w]`."""
        if self.score is not None:
            weights = self.score(tokens).float().masked_fill(~mask.unsqueeze(-1), -torch.inf).softmax(dim=1)
            return torch.bmm(weights.to(tokens.dtype).transpose(1, 2), tokens).squeeze(1)
        if self.how == "mean":
            return masked_mean(tokens, mask)
        return tokens[:, 0] if self.how == "first" else masked_max(tokens, mask)


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the mean `[b, w]` over the real tokens of `[b, l, w]`."""
    real = mask.unsqueeze(-1)
    return (tokens * real).sum(dim=1) / real.sum(dim=1).to(tokens.dtype)


def masked_max(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the greatest values `[b, w]` over the real tokens of `[b, l, w]`."""
    return tokens.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(dim=1)


def make_pooling(width: int, how: Pooling) -> TokenPooling | None:
    """Return the pooling of that name, nothing for `none`."""
    return None if how == "none" else TokenPooling(width, how)


def pooled(pooling: TokenPooling | None, tokens: Tensor, mask: Tensor) -> Encoded:
    """Return all tokens `[b, l, w]`, or the one `[b, 1, w]` that a pooling makes of them."""
    return Encoded(tokens, mask) if pooling is None else Encoded(pooling(tokens, mask).unsqueeze(1))
