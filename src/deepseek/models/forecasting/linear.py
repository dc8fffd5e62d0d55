"""Linear forecasts: one matrix from past to future for all target columns, behind a decomposition or a normalisation.

Zeng et al., "Are Transformers Effective for Time Series Forecasting?", AAAI 2023, https://arxiv.org/abs/2205.13504. They are what every
larger network has to beat.

Legend of shapes: `b` windows · `l` steps of the past · `h` steps ahead · `c` target columns · `q` numbers for each value · `p` parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.windows.rules import HISTORY
from deepseek.models.forecasting.base import Forecaster, Graph, Inputs


class DLinear(Forecaster):
    """Splits the past into a moving average and the rest, and forecasts each by a matrix that all target columns share.

    Only the targets' own past is looked at; observed, known and static inputs are not.

    Args:
        kernel: How many steps the moving average spans, 1 or more; at the ends the outermost value is repeated.
        individual: Whether each target column has matrices of its own.

    Example:
        >>> from deepseek.data.transforms.base import InputSpec
        >>> from deepseek.fields import Kind
        >>> past = InputSpec("history", Kind.SERIES, ("load",), (48, 1), "float32", horizon=12)
        >>> network = DLinear({"history": past}, {}, kernel=5)
        >>> features = network({"history": torch.zeros(2, 48, 1)})
        >>> features.shape, network.decision(12)(features).shape
        (torch.Size([2, 1, 96]), torch.Size([2, 1, 12]))
    """

    def __init__(self, inputs: Inputs, graph: Graph, /, *, kernel: Annotated[int, Ge(1)] = 25, individual: bool = False) -> None:
        super().__init__(inputs, graph)
        self.kernel, self.individual = kernel, individual
        self.width = 2 * self.context * self.channels

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return `[b, 1, 2 · l · c]`: for each target column the rest and the moving average."""
        x = self.ready(inputs)[HISTORY].transpose(1, 2)
        trend = moving_average(x, self.kernel)
        return torch.stack((x - trend, trend), dim=1).flatten(1).unsqueeze(1)

    def decision(self, outputs: int) -> nn.Module:
        """Return the matrices, `[b, 1, 2 · l · c]` to `[b, 1, h · c · q]`."""
        return LinearDecision(
            2, self.context, horizon=self.horizon, channels=self.channels, each=self.per_value(outputs), own=self.individual
        )


class NLinear(Forecaster):
    """Takes the last value off the past, forecasts by a matrix that all target columns share, and puts the value back.

    So a level that was never seen in training is no stranger: only differences to the last value are forecast. Only the targets' own past
    is looked at; observed, known and static inputs are not.

    Args:
        individual: Whether each target column has a matrix of its own.

    Example:
        >>> from deepseek.data.transforms.base import InputSpec
        >>> from deepseek.fields import Kind
        >>> past = InputSpec("history", Kind.SERIES, ("load",), (48, 1), "float32", horizon=12)
        >>> network = NLinear({"history": past}, {})
        >>> high = network.decision(12)(network({"history": torch.full((1, 48, 1), 1000.0)}))
        >>> bool((high > 999).all())
        True
    """

    def __init__(self, inputs: Inputs, graph: Graph, /, *, individual: bool = False) -> None:
        super().__init__(inputs, graph)
        self.individual = individual
        self.width = (self.context + 1) * self.channels

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return `[b, 1, (l + 1) · c]`: for each target column the differences to its last value, and behind all of them these."""
        x = self.ready(inputs)[HISTORY].transpose(1, 2)
        last = x[:, :, -1:]
        return torch.cat(((x - last).flatten(1), last.flatten(1)), dim=1).unsqueeze(1)

    def decision(self, outputs: int) -> nn.Module:
        """Return the matrix, `[b, 1, (l + 1) · c]` to `[b, 1, h · c · q]`."""
        each = self.per_value(outputs)
        return LinearDecision(1, self.context, horizon=self.horizon, channels=self.channels, each=each, own=self.individual, level=True)


class LinearDecision(nn.Module):
    """From the past of each target column to its future: the sum of a linear map for each part of it.

    Args:
        parts: `p`: how many parts the past comes in.
        context: `l`.
        horizon: `h`.
        channels: `c`.
        each: `q`.
        own: Whether each target column has maps of its own.
        level: Whether each column's level stands behind the past, and is put on what is forecast.

    Shape:
        `[b, 1, p · c · l (+ c)]` to `[b, 1, h · c · q]`.
    """

    def __init__(self, parts: int, context: int, *, horizon: int, channels: int, each: int, own: bool = False, level: bool = False) -> None:
        super().__init__()
        self._shape, self._horizon, self._each, self._level = (parts, channels, context), horizon, each, level
        bound = context**-0.5
        maps = channels if own else 1
        self.weight = nn.Parameter(torch.empty(parts, maps, horizon * each, context).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(parts, maps, horizon * each).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        """Return the forecasts, in the order of steps, columns and numbers for each value."""
        parts, channels, context = self._shape
        flat = features.squeeze(1)
        past = flat[:, : parts * channels * context].reshape(-1, parts, channels, context)
        if self.weight.shape[1] == 1:  # one product for all columns
            each = [functional.linear(past[:, part], self.weight[part, 0], self.bias[part, 0]) for part in range(parts)]
            out = torch.stack(each).sum(dim=0) if parts > 1 else each[0]
        else:
            out = torch.einsum("bpcl,pcol->bco", past, self.weight) + self.bias.sum(dim=0)
        out = out.reshape(-1, channels, self._horizon, self._each)
        if self._level:
            out = out + flat[:, parts * channels * context :].reshape(-1, channels, 1, 1)
        return out.transpose(1, 2).flatten(1).unsqueeze(1)


def moving_average(x: Tensor, kernel: int) -> Tensor:
    """Return the mean of so many neighbours at each step of `[b, c, l]`, the outermost values repeated beyond the ends.

    Args:
        x: The series.
        kernel: How many steps; of an even number one more lies behind a step than before it.

    Example:
        >>> moving_average(torch.tensor([[[0.0, 3.0, 6.0]]]), 3)
        tensor([[[1., 3., 5.]]])
    """
    padded = functional.pad(x, ((kernel - 1) // 2, kernel // 2), mode="replicate")
    return functional.avg_pool1d(padded, kernel, stride=1)
