"""A convolutional network for texts: detectors of short phrases, the strongest answer of each.

Legend of shapes: `b` rows · `l` tokens · `v` width of a token's vector · `f` filters of one window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.transforms.base import InputSpec
from deepseek.models.base import Encoded
from deepseek.models.encoders.text import Scale, TextEncoder, masked_max, masked_mean, token_vectors
from deepseek.models.layers import Probability, Width


class TextCnnEncoder(TextEncoder):
    """Convolutions of several window sizes side by side, a ReLU, and the greatest value over the text.

    A window stands on every token and sees zeros beyond the text's ends, so that a text of one token has an answer too.

    Source: Kim, "Convolutional Neural Networks for Sentence Classification", EMNLP 2014, https://arxiv.org/abs/1408.5882.

    Args:
        token_width: The width of a token's vector.
        windows: How many tokens the filters see, one size for each group of filters.
        filters: How many filters each window size has.
        pool: How the answers over the text become one vector: `max`, `mean`, or `none` for a vector at each token.
        dropout: The share of the result that is dropped, in [0, 1).
        embedding_dropout: The share of the tokens' vectors' values that are dropped, in [0, 1).
        token_dropout: The share of tokens that are read as unknown while training, in [0, 1).
        embedding_scale: The standard deviation of the tokens' vectors at the start.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        token_width: Width = 128,
        windows: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = [2, 3, 4],  # noqa: B006 - a recipe's default is read, never written to
        filters: Width = 128,
        pool: Literal["max", "mean", "none"] = "max",
        dropout: Probability = 0.5,
        embedding_dropout: Probability = 0.0,
        token_dropout: Probability = 0.0,
        embedding_scale: Scale = 0.1,
    ) -> None:
        super().__init__(inputs, token_dropout=token_dropout)
        self.embedding = token_vectors(self.vocabulary_size, token_width, embedding_scale)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.convolutions = nn.ModuleList(nn.Conv1d(token_width, filters, window, padding=window // 2) for window in windows)
        self.dropout = nn.Dropout(dropout)
        self.pool = pool
        self.width = filters * len(windows)
        self.tokens = None if pool == "none" else 1

    def encode(self, ids: Tensor, mask: Tensor) -> Encoded:
        """Return `[b, 1, width]`, or `[b, l, width]` where nothing is pooled."""
        # Vectors lie side by side in memory: to a convolution over a flat image that is channels-last, which takes no copy and is up to
        # a quarter faster than one over a line.
        x = self.embedding_dropout(self.embedding(ids)).transpose(1, 2).unsqueeze(2)
        parts = [self._part(x, convolution, mask) for convolution in self.convolutions]
        tokens = self.dropout(functional.relu(torch.cat(parts, dim=-1)))
        return Encoded(tokens, mask) if self.pool == "none" else Encoded(tokens.unsqueeze(1))

    def _part(self, x: Tensor, convolution: nn.Module, mask: Tensor) -> Tensor:
        """Map `[b, v, 1, l]` to `[b, f]` (to `[b, l, f]` without pooling), before the ReLU where that does not matter."""
        assert isinstance(convolution, nn.Conv1d)
        out = functional.conv2d(x, convolution.weight.unsqueeze(2), convolution.bias, padding=(0, int(convolution.padding[0])))
        out = out[..., : x.shape[-1]].squeeze(2).transpose(1, 2)  # an even window stands on one place more than there are tokens
        if self.pool == "none":
            return out
        return masked_max(out, mask) if self.pool == "max" else masked_mean(functional.relu(out), mask)
