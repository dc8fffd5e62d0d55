"""Recurrent networks for texts: GRU and LSTM, in both directions, with attention over what they say at each token.

Legend of shapes: `b` rows · `l` tokens · `w` width · `h` width of one direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.models.base import Encoded
from deepseek.models.encoders.text import Pooling, Scale, TextEncoder, make_pooling, pooled, token_vectors
from deepseek.models.layers import Depth, Probability, ResidualEvery, Width, checked_residual, stacked

Cell = Literal["lstm", "gru"]


class TextRnnEncoder(TextEncoder):
    """Layers of LSTM or GRU that read a text forward and backward, then attention over the tokens.

    The backward direction reads each row's own tokens in reverse, so that padding, which lies behind them, is never read before them: the
    same numbers as packed sequences, at up to twice their speed.

    Source: LSTM, Hochreiter and Schmidhuber, Neural Computation 1997, https://doi.org/10.1162/neco.1997.9.8.1735; GRU, Cho et al., EMNLP
    2014, https://arxiv.org/abs/1406.1078; attention over the states, Yang et al., NAACL 2016, https://aclanthology.org/N16-1174/.

    Args:
        cell: `lstm`, or `gru`, which has fewer weights and is slower on a processor.
        token_width: The width of a token's vector.
        width: The width of the result; with two directions each has half of it.
        depth: How many layers.
        residual_every: A way round every so many layers, where their width is that of what came in; 0 for none.
        bidirectional: Whether each layer also reads backward.
        pool: How the tokens become one vector: `attention`, `mean`, `max`, `first`, or `none` for all of them.
        dropout: The share of values dropped behind every layer and behind the pooling, in [0, 1).
        embedding_dropout: The share of the tokens' vectors' values that are dropped, in [0, 1).
        token_dropout: The share of tokens that are read as unknown while training, in [0, 1).
        embedding_scale: The standard deviation of the tokens' vectors at the start.

    Raises:
        InputError: `width` is odd and there are two directions; or `residual_every` is so large that no way round would be made.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        cell: Cell = "lstm",
        token_width: Width = 128,
        width: Width = 128,
        depth: Depth = 1,
        residual_every: ResidualEvery = 0,
        bidirectional: bool = True,
        pool: Pooling = "attention",
        dropout: Probability = 0.3,
        embedding_dropout: Probability = 0.0,
        token_dropout: Probability = 0.0,
        embedding_scale: Scale = 0.1,
    ) -> None:
        super().__init__(inputs, token_dropout=token_dropout)
        if bidirectional and width % 2:
            raise InputError(f"width is {width}, which two directions cannot share", hint="give an even width, or bidirectional: false")
        self.embedding = token_vectors(self.vocabulary_size, token_width, embedding_scale)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.layers = nn.ModuleList(
            _Layer(cell, token_width if layer == 0 else width, width, bidirectional=bidirectional) for layer in range(depth)
        )
        self.residual_every = checked_residual(residual_every, depth, widening=(token_width, width))
        self.dropout = nn.Dropout(dropout)
        self.pooling = make_pooling(width, pool)
        self.width = width
        self.tokens = None if pool == "none" else 1

    def encode(self, ids: Tensor, mask: Tensor) -> Encoded:
        """Return `[b, 1, width]`, or `[b, l, width]` where nothing is pooled."""
        x = self.embedding_dropout(self.embedding(ids))
        reverse = reversal(mask)
        states = stacked([partial(layer, reverse=reverse) for layer in self.layers], x, every=self.residual_every, between=self.dropout)
        encoded = pooled(self.pooling, states, mask)
        return Encoded(self.dropout(encoded.tokens), encoded.mask)


class _Layer(nn.Module):
    """One layer, in one direction or in both."""

    def __init__(self, cell: Cell, width_in: int, width: int, *, bidirectional: bool) -> None:
        super().__init__()
        make, own = (nn.GRU if cell == "gru" else nn.LSTM), width // 2 if bidirectional else width
        self.ahead = make(width_in, own, batch_first=True)
        self.back = make(width_in, own, batch_first=True) if bidirectional else None

    def forward(self, x: Tensor, reverse: Tensor) -> Tensor:
        """Map `[b, l, w_in]` to `[b, l, w]`; what it says behind a row's end has no meaning."""
        ahead = run(self.ahead, x)
        if self.back is None:
            return ahead
        return torch.cat((ahead, reorder(run(self.back, reorder(x, reverse)), reverse)), dim=-1)


def reversal(mask: Tensor) -> Tensor:
    """Return int64 `[b, l]`: for each place of a row reversed within its own length, the place it comes from; padding stays."""
    place = torch.arange(mask.shape[1], device=mask.device)
    back = mask.sum(dim=1, keepdim=True) - 1 - place
    return torch.where(back >= 0, back, place)


def reorder(x: Tensor, places: Tensor) -> Tensor:
    """Return the tokens of `[b, l, w]` in the order of places `[b, l]` within each row."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def run(layer: nn.RNNBase, x: Tensor) -> Tensor:
    """Return the states `[b, l, h]` of one layer of a GRU or LSTM over `[b, l, w]`.

    The library's kernel is one loop in C++, which exporting would unroll for one length; an exported program holds it as one operator.
    """
    if torch.compiler.is_exporting():
        weight_in, weight, bias_in, bias = layer.parameters()  # in PyTorch's documented order
        exported: Tensor = recurrent(x, weight_in, weight, bias_in, bias)
        return exported
    states: Tensor = layer(x)[0]
    return states


@torch.library.custom_op("deepseek::recurrent", mutates_args=())
def recurrent(x: Tensor, weight_in: Tensor, weight: Tensor, bias_in: Tensor, bias: Tensor) -> Tensor:
    """Return the states `[b, l, h]` of a GRU (weights of `3h` rows) or LSTM (`4h`) over `[b, l, w]`: what exported programs hold.

    Args:
        x: `[b, l, w]`.
        weight_in: `[3h, w]` or `[4h, w]`, the gates in PyTorch's order.
        weight: `[3h, h]` or `[4h, h]`.
        bias_in: `[3h]` or `[4h]`.
        bias: As `bias_in`.
    """
    start = x.new_zeros(1, x.shape[0], weight.shape[1])
    parameters = [weight_in, weight, bias_in, bias]
    if is_gru(weight):
        states: Tensor = torch.gru(x, start, parameters, True, 1, 0.0, False, False, True)[0]
    else:
        states = torch.lstm(x, [start, start], parameters, True, 1, 0.0, False, False, True)[0]
    return states.contiguous()


@recurrent.register_fake
def _(x: Tensor, weight_in: Tensor, weight: Tensor, bias_in: Tensor, bias: Tensor) -> Tensor:  # noqa: ARG001 - as the operator is called
    return x.new_empty(x.shape[0], x.shape[1], weight.shape[1])


def is_gru(weight: Tensor) -> bool:
    """Whether a weight `[3h, h]` is that of a GRU, whose gates are three."""
    return weight.shape[0] == 3 * weight.shape[1]
