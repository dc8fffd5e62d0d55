"""Recurrent networks for series: GRU and LSTM over the steps, with attention over what they say at each.

Legend of shapes: `b` rows · `l` steps · `k` columns · `w` width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import cast

from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.models.base import Encoded
from deepseek.models.encoders.series import SeriesEncoder
from deepseek.models.encoders.text import Pooling, make_pooling, pooled
from deepseek.models.encoders.text_rnn import Cell, run
from deepseek.models.layers import Depth, Probability, ResidualEvery, Width, checked_residual, stacked


class SeriesRnnEncoder(SeriesEncoder):
    """Layers of LSTM or GRU over the steps of a series of numbers, then attention over the steps.

    Source: LSTM, Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735; GRU, Cho et al. 2014,
    https://arxiv.org/abs/1406.1078; attention over the states, Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473.

    Args:
        cell: `lstm`, or `gru`, which has fewer weights and is slower on a processor.
        width: The width of the result.
        depth: How many layers.
        residual_every: A way round every so many layers, where their width is that of what came in; 0 for none.
        pool: How the steps become one vector: `attention`, `mean`, `max`, `first`, or `none` for all of them.
        dropout: The share of values dropped behind every layer and behind the pooling, in [0, 1).

    Raises:
        InputError: `residual_every` is so large that no way round would be made.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        cell: Cell = "lstm",
        width: Width = 128,
        depth: Depth = 1,
        residual_every: ResidualEvery = 0,
        pool: Pooling = "attention",
        dropout: Probability = 0.1,
    ) -> None:
        super().__init__(inputs)
        make = nn.GRU if cell == "gru" else nn.LSTM
        self.layers = nn.ModuleList(make(self.columns if layer == 0 else width, width, batch_first=True) for layer in range(depth))
        self.residual_every = checked_residual(residual_every, depth, widening=(self.columns, width))
        self.dropout = nn.Dropout(dropout)
        self.pooling = make_pooling(width, pool)
        self.width = width
        self.tokens = self.length if pool == "none" else 1

    def encode(self, x: Tensor, mask: Tensor) -> Encoded:
        """Return `[b, 1, w]`, or `[b, l, w]` where nothing is pooled."""
        layers = [partial(run, cast("nn.RNNBase", layer)) for layer in self.layers]
        encoded = pooled(self.pooling, stacked(layers, x, every=self.residual_every, between=self.dropout), mask)
        return Encoded(self.dropout(encoded.tokens), encoded.mask)
