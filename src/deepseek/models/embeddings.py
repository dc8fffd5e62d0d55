"""Numeric embeddings: how a column of numbers becomes a vector before the network mixes columns.

On tables with irregular targets these matter more than the trunk behind them (Gorishniy, Rubachev and Babenko, "On Embeddings for
Numerical Features in Tabular Deep Learning", NeurIPS 2022, https://arxiv.org/abs/2203.05556).

Legend of shapes: `b` rows · `f` columns · `w` width of one column's embedding · `k` bins.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional

from deepseek.errors import InputError
from deepseek.models.layers import Width, without_autocast


class NumericEmbedding(nn.Module, ABC):
    """Turns each number into a vector, column by column, all columns at once.

    Args:
        columns: `f`.
        quantiles: float32 `[f, q]`, quantiles of the training rows in the units that the embedding meets; nothing where they are not known.

    Attributes:
        width: `w`.
    """

    width: int

    def __init__(self, columns: int, quantiles: np.ndarray | None, /) -> None:
        super().__init__()
        if quantiles is not None and (quantiles.ndim != 2 or len(quantiles) != columns):
            raise InputError(
                f"quantiles of shape {quantiles.shape} for {columns} columns", hint="one row of quantiles for each column is needed"
            )
        self.columns = columns

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, f]` to `[b, f, w]`."""


class IdentityEmbedding(NumericEmbedding):
    """The number itself: the plain input of classical networks."""

    width = 1

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, f]` to `[b, f, 1]`."""
        return x.unsqueeze(-1)


class LinearEmbedding(NumericEmbedding):
    """A linear map of each number, with weights of its own for each column, and an optional ReLU.

    Args:
        width: `w`, at least 1.
        activation: Whether a ReLU follows.
    """

    no_decay = frozenset({"weight", "bias"})

    def __init__(self, columns: int, quantiles: np.ndarray | None, /, *, width: Width = 16, activation: bool = True) -> None:
        super().__init__(columns, quantiles)
        self.width, self.activation = width, activation
        bound = 1.0 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(columns, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, width).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, f]` to `[b, f, w]`."""
        out = torch.addcmul(self.bias, x.unsqueeze(-1), self.weight)
        return functional.relu(out) if self.activation else out


class PeriodicEmbedding(NumericEmbedding):
    """Learned frequencies, then a linear map: `ReLU(Linear([cos 2πcx, sin 2πcx]))`, called PLR in the paper.

    Lets a network learn functions of a number that change quickly; wants the number scaled to about ±1 to ±3.

    Source: Gorishniy, Rubachev and Babenko, NeurIPS 2022, https://arxiv.org/abs/2203.05556.

    Args:
        width: `w`, at least 1.
        frequencies: How many frequencies a column has.
        frequency_scale: Standard deviation of the frequencies at the start; the most important setting, worth tuning between 0.01 and 10.
        activation: Whether a ReLU follows.
    """

    no_decay = frozenset({"frequency", "bias"})

    def __init__(
        self,
        columns: int,
        quantiles: np.ndarray | None,
        /,
        *,
        width: Width = 16,
        frequencies: Annotated[int, Ge(1)] = 32,
        frequency_scale: Annotated[float, Gt(0.0)] = 0.1,
        activation: bool = True,
    ) -> None:
        super().__init__(columns, quantiles)
        self.width, self.activation = width, activation
        # The normal numbers are cut at three deviations: a single very high frequency makes its column noise.
        start = nn.init.trunc_normal_(torch.empty(columns, frequencies), 0.0, frequency_scale, -3 * frequency_scale, 3 * frequency_scale)
        self.frequency = nn.Parameter(start)
        bound = 1.0 / math.sqrt(2 * frequencies)
        self.weight = nn.Parameter(torch.empty(columns, 2 * frequencies, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, width).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, f]` to `[b, f, w]`."""
        angle = 2 * math.pi * x.unsqueeze(-1) * self.frequency
        out = _by_column(torch.cat((angle.cos(), angle.sin()), dim=-1), self.weight, self.bias)
        return functional.relu(out) if self.activation else out


class PiecewiseEmbedding(NumericEmbedding):
    """Piecewise-linear encoding over quantile bins, then a linear map for each column: any function of one number becomes easy.

    A number's code has one entry a bin: 1 for bins below it, 0 for bins above it, and how far it has come inside its own. Outside the
    training range the code stays at its end (in the paper it goes on growing), so that an outlier in production cannot blow up; the linear
    term carries on there.

    Source: Gorishniy, Rubachev and Babenko, NeurIPS 2022, https://arxiv.org/abs/2203.05556; with a linear term added, as in "TabM",
    https://arxiv.org/abs/2410.24210.

    Args:
        width: `w`, at least 1.
        bins: The most bins that a column has; a column with few different values has fewer.
        distinct: A column with at most so many different values has an edge at each of them, even if that makes more than `bins`.
        activation: Whether a ReLU follows.
        linear: Whether a linear map of the number itself is added.
        zero_init: Whether the map of the code begins at zero, so that training begins with the linear term alone; needs `linear`.

    Raises:
        InputError: There are no quantiles, or `zero_init` is asked for without `linear`.
    """

    no_decay = frozenset({"slope", "bias"})
    left: Tensor
    inverse: Tensor

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        columns: int,
        quantiles: np.ndarray | None,
        /,
        *,
        width: Width = 16,
        bins: Annotated[int, Ge(2)] = 48,
        distinct: Annotated[int, Ge(0)] = 0,
        activation: bool = True,
        linear: bool = True,
        zero_init: bool = False,
    ) -> None:
        super().__init__(columns, quantiles)
        if quantiles is None:
            raise InputError("a piecewise embedding has no quantiles to make bins from", hint="use the embedding 'linear' or 'periodic'")
        if zero_init and not linear:
            raise InputError(
                "zero_init without linear: the embedding would pass nothing on", hint="set linear to true, or zero_init to false"
            )
        self.width, self.activation = width, activation
        left, inverse = _padded_bins([bin_edges(row, bins, distinct) for row in quantiles])
        self.register_buffer("left", left)
        self.register_buffer("inverse", inverse)
        bound = 1.0 / math.sqrt(left.shape[1])
        self.weight = nn.Parameter(
            torch.zeros(columns, left.shape[1], width) if zero_init else torch.randn(columns, left.shape[1], width) * bound
        )
        self.bias = nn.Parameter(torch.empty(columns, width).uniform_(-1.0, 1.0))
        self.slope = nn.Parameter(torch.empty(columns, width).uniform_(-1.0, 1.0)) if linear else None

    def encode(self, x: Tensor) -> Tensor:
        """Return the piecewise-linear code `[b, f, k]` of `[b, f]`; padding is 0."""
        return ((x.unsqueeze(-1) - self.left) * self.inverse).clamp(0.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, f]` to `[b, f, w]`."""
        out = _by_column(self.encode(x), self.weight, self.bias)
        if self.slope is not None:
            out = torch.addcmul(out, x.unsqueeze(-1), self.slope)
        return functional.relu(out) if self.activation else out


def bin_edges(quantiles: np.ndarray, bins: int, distinct: int = 0) -> np.ndarray:
    """Choose the edges of one column's bins among its quantiles.

    A value that alone holds more than `1/bins` of the rows is an edge, and the others are spread over the remaining rows: on a skewed
    column (half of it zeros, say) plain quantiles would waste most bins on the one value.

    Args:
        quantiles: Float `[q]`, rising, with equal steps of probability.
        bins: The most bins.
        distinct: Up to so many different values, each is an edge.

    Returns:
        Float64 `[n]`, strictly rising, `1 <= n <= max(bins + 1, distinct)`.

    Example:
        >>> bin_edges(np.array([0.0, 0.0, 0.0, 1.0, 2.0]), 4).tolist()
        [0.0, 1.0, 2.0]
    """
    values, counts = np.unique(np.asarray(quantiles, dtype=np.float64), return_counts=True)
    if len(values) <= max(bins + 1, distinct):
        return values
    heavy = values[counts * bins > len(quantiles)]
    rest = quantiles[~np.isin(quantiles, heavy)].astype(np.float64)
    wanted = max(2, bins + 1 - len(heavy))
    places = np.linspace(0, len(rest) - 1, min(wanted, len(rest))).round().astype(np.int64)
    edges = np.unique(np.concatenate((heavy, rest[places])))
    return edges if len(edges) <= bins + 1 else edges[np.linspace(0, len(edges) - 1, bins + 1).round().astype(np.int64)]


def _padded_bins(edges: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Return the left ends and inverse widths of all columns' bins, `[f, k]`; padding has the inverse width 0, and so the code 0."""
    k = max([1, *(len(row) - 1 for row in edges)])
    left, inverse = np.zeros((len(edges), k)), np.zeros((len(edges), k))
    for column, row in enumerate(edges):
        left[column, : len(row) - 1] = row[:-1]
        inverse[column, : len(row) - 1] = 1.0 / np.diff(row)
    return torch.tensor(left, dtype=torch.float32), torch.tensor(inverse, dtype=torch.float32)


def _by_column(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Map `[b, f, k]` to `[b, f, w]` with `weight[f, k, w]` and `bias[f, w]`: one batched product.

    It stays in float32 under autocast: casting the codes costs more than the product gains, and bfloat16 would blur the place in a bin.
    """
    with without_autocast(x.device):
        return torch.baddbmm(bias.unsqueeze(1), x.transpose(0, 1), weight).transpose(0, 1)
