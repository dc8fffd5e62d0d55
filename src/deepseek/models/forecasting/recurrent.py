"""Recurrent forecasts: an LSTM or GRU reads the past, another what is known ahead, and attention joins them.

Legend of shapes: `b` windows · `l` steps of the past · `h` steps ahead · `w` width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from deepseek.data.windows.rules import HISTORY
from deepseek.models.encoders.text_rnn import Cell, run
from deepseek.models.forecasting.base import Forecaster, Graph, Inputs, StepDecision, to_window_scale
from deepseek.models.forecasting.tft import POSITION
from deepseek.models.forecasting.variables import VariableVectors
from deepseek.models.layers import Depth, Probability, Width


class SeriesRnn(Forecaster):
    """An encoder reads observed and known variables of the past, a decoder those known ahead; each step ahead attends to all of the past.

    All steps ahead are answered at once: nothing that was predicted is fed back, so that errors do not add up. Sources: sequence to
    sequence, Sutskever et al. 2014, https://arxiv.org/abs/1409.3215; dot-product attention, Luong et al. 2015,
    https://arxiv.org/abs/1508.04025; LSTM, Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735; GRU, Cho et al.
    2014, https://arxiv.org/abs/1406.1078.

    Args:
        cell: `lstm`, or `gru`, which has fewer weights and is slower on a processor.
        width: The width of all vectors.
        depth: How many layers the encoder has.
        attention: Whether steps ahead attend to the past; without, they know its last state only.
        dropout: The share of values dropped behind every layer, in [0, 1).
        window_scale: Whether the targets' past is brought to mean 0 and deviation 1 in each window, and forecasts back: levels wander.

    Example:
        >>> from deepseek.data.transforms.base import InputSpec
        >>> from deepseek.fields import Kind
        >>> past = InputSpec("history", Kind.SERIES, ("load",), (48, 1), "float32", horizon=12)
        >>> SeriesRnn({"history": past}, {}, width=8)({"history": torch.zeros(2, 48, 1)}).shape
        torch.Size([2, 1, 98])
    """

    positions: Tensor

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        cell: Cell = "lstm",
        width: Width = 64,
        depth: Depth = 1,
        attention: bool = True,
        dropout: Probability = 0.1,
        window_scale: bool = True,
    ) -> None:
        super().__init__(inputs, graph)
        make = nn.GRU if cell == "gru" else nn.LSTM
        self.width, self._inner = self.horizon * width + (2 * self.channels if window_scale else 0), width
        self.window_scale = window_scale
        self.past_vectors = VariableVectors({HISTORY: self.history, **self.past, **self.known}, width, position=[POSITION])
        self.future_vectors = VariableVectors(self.known, width, position=[POSITION])
        self.static_vectors = VariableVectors(self.static, width) if self.static else None
        self.layers = nn.ModuleList(make(width, width, batch_first=True) for _ in range(depth))
        self.decoder = make(width, width, batch_first=True)
        self.key = nn.Linear(width, width) if attention else None
        self.join = nn.Linear((3 if attention else 2) * width, width)
        self.dropout = nn.Dropout(dropout)
        steps = torch.arange(self.context + self.horizon)
        self.register_buffer("positions", (steps - self.context + 1).float().unsqueeze(-1) / self.context, persistent=False)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return `[b, 1, h · w]`: a vector for each step ahead; `[b, 1, h · w + 2 · c]` with what scales back behind them."""
        ready, length = self.ready(inputs), self.context
        if not self.window_scale:
            return self._vectors(ready, length).unsqueeze(1)
        ready, statistics = to_window_scale(ready)
        return torch.cat((self._vectors(ready, length), statistics), dim=1).unsqueeze(1)

    def _vectors(self, ready: Mapping[str, Tensor], length: int) -> Tensor:
        positions = self.positions.expand(ready[HISTORY].shape[0], -1, -1)
        past_inputs = {name: ready[name][:, :length] for name in (HISTORY, *self.past, *self.known)}
        past = self.past_vectors(past_inputs, positions[:, :length]).sum(dim=-2)
        future = self.future_vectors({name: ready[name][:, length:] for name in self.known}, positions[:, length:]).sum(dim=-2)
        if self.static_vectors is not None:
            fixed = self.static_vectors({name: ready[name] for name in self.static}).sum(dim=-2).unsqueeze(1)
            past, future = past + fixed, future + fixed
        for layer in self.layers:
            past = self.dropout(run(cast("nn.RNNBase", layer), past))
        last = past[:, -1:]
        ahead = run(self.decoder, future + last)
        parts = [ahead, last.expand_as(ahead)]
        if self.key is not None:
            weights = (ahead @ self.key(past).transpose(1, 2) / math.sqrt(self._inner)).float().softmax(dim=-1)
            parts.append(weights.to(past.dtype) @ past)
        joined: Tensor = self.dropout(self.join(torch.cat(parts, dim=-1)).tanh())
        return joined.flatten(1)

    def decision(self, outputs: int) -> nn.Module:
        """Return the linear layer that all steps ahead share, `[b, 1, h · w (+ 2 · c)]` to `[b, 1, h · c · q]`."""
        each, scale = self.per_value(outputs), self.window_scale
        return StepDecision(self.horizon, self._inner, channels=self.channels, each=each, window_scale=scale)
