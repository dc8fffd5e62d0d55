"""The Temporal Fusion Transformer: forecasts from static, known and observed variables, and says what it looked at.

Legend of shapes: `b` windows · `l` steps of the past · `h` steps ahead · `w` width · `v` variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, cast

import torch
from annotated_types import Ge
from torch import Tensor, nn

from deepseek.data.windows.rules import HISTORY
from deepseek.errors import InputError
from deepseek.models.forecasting.base import Forecaster, Graph, Inputs, StepDecision, to_window_scale
from deepseek.models.forecasting.gating import GatedResidual, GatedSkip, ReadableAttention, VariableSelection
from deepseek.models.forecasting.variables import VariableVectors
from deepseek.models.layers import Depth, Probability, Width
from deepseek.models.recurrent import run_from

POSITION = "position"
"""The variable that says how far a step lies from the end of the past: known of every step, so that there always is one."""


@dataclass(frozen=True)
class Interpretation:
    """What a Temporal Fusion Transformer looked at, window by window.

    Attributes:
        past: The weight of each variable at each step of the past, by its name: `[b, l]`, which sum to 1 over the variables.
        future: The same of what is known ahead, `[b, h]`.
        static: The weight of each static variable, `[b]`; empty where there are none.
        attention: How much each step ahead looked at each step of the window, `[b, h, l + h]`; none looks behind itself.
    """

    past: dict[str, Tensor]
    future: dict[str, Tensor]
    static: dict[str, Tensor]
    attention: Tensor


class TemporalFusionTransformer(Forecaster):
    """Selects among static, known and observed variables, runs an LSTM over past and future, and attends to the past over long distances.

    Source: Lim, Arık, Loeff and Pfister, "Temporal Fusion Transformers for interpretable multi-horizon time series forecasting",
    International Journal of Forecasting 2021, https://arxiv.org/abs/1912.09363. Its paper answers quantiles: `task: {type: forecasting,
    loss: {type: quantile, levels: [0.1, 0.5, 0.9]}, …}`. How far it looks back is the task's `context_length`.

    Args:
        width: The width of all vectors, a multiple of `heads`.
        heads: How many heads attend side by side.
        depth: How many layers the LSTM has.
        dropout: The share of values dropped before gates and behind attention, in [0, 1).
        window_scale: Whether the targets' past is brought to mean 0 and deviation 1 in each window, and forecasts back: levels wander. The
            paper does without.

    Raises:
        InputError: `width` is no multiple of `heads`.

    Example:
        >>> from deepseek.data.transforms.base import InputSpec
        >>> from deepseek.fields import Kind
        >>> past = InputSpec("history", Kind.SERIES, ("load",), (48, 1), "float32", horizon=12)
        >>> network = TemporalFusionTransformer({"history": past}, {}, width=8, heads=2).eval()
        >>> window = {"history": torch.zeros(2, 48, 1)}
        >>> network(window).shape, network.interpretation(window).attention.shape
        (torch.Size([2, 1, 98]), torch.Size([2, 12, 60]))
    """

    positions: Tensor
    hidden: Tensor

    def __init__(
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        width: Width = 32,
        heads: Annotated[int, Ge(1)] = 4,
        depth: Depth = 1,
        dropout: Probability = 0.1,
        window_scale: bool = True,
    ) -> None:
        super().__init__(inputs, graph)
        if width % heads:
            raise InputError(f"width is {width}, which {heads} heads cannot share", hint="give a multiple of heads")
        self.width = self.horizon * width + (2 * self.channels if window_scale else 0)
        self.window_scale = window_scale
        self._inner = width
        static = {name: spec for name, spec in self.static.items() if spec.shape}
        self.static_vectors = VariableVectors(static, width) if static else None
        self.static_selection = VariableSelection(len(self.static_vectors), width, dropout=dropout) if self.static_vectors else None
        context = width if static else None
        self.contexts = nn.ModuleList(GatedResidual(width, width, dropout=dropout) for _ in range(2 + 2 * depth)) if static else None
        self.past_vectors = VariableVectors({HISTORY: self.history, **self.past, **self.known}, width, position=[POSITION])
        self.future_vectors = VariableVectors(self.known, width, position=[POSITION])
        self.past_selection = VariableSelection(len(self.past_vectors), width, context=context, dropout=dropout)
        self.future_selection = VariableSelection(len(self.future_vectors), width, context=context, dropout=dropout)
        self.past_layers = nn.ModuleList(nn.LSTM(width, width, batch_first=True) for _ in range(depth))
        self.future_layers = nn.ModuleList(nn.LSTM(width, width, batch_first=True) for _ in range(depth))
        self.after_lstm = GatedSkip(width, dropout)
        self.enrichment = GatedResidual(width, width, context=context, dropout=dropout)
        self.attention = ReadableAttention(width, heads, dropout)
        self.after_attention = GatedSkip(width, dropout)
        self.feed_forward = GatedResidual(width, width, dropout=dropout)
        self.last = GatedSkip(width)
        length, ahead = self.context, self.horizon
        steps = torch.arange(length + ahead)
        self.register_buffer("positions", (steps - length + 1).float().unsqueeze(-1) / length, persistent=False)
        self.register_buffer("hidden", steps > steps[length:, None], persistent=False)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return `[b, 1, h · w]`: a vector for each step ahead; `[b, 1, h · w + 2 · c]` with what scales back behind them."""
        ready = self.ready(inputs)
        if not self.window_scale:
            return self._run(ready)[0].flatten(1).unsqueeze(1)
        ready, statistics = to_window_scale(ready)
        return torch.cat((self._run(ready)[0].flatten(1), statistics), dim=1).unsqueeze(1)

    def decision(self, outputs: int) -> nn.Module:
        """Return the linear layer that all steps ahead share, `[b, 1, h · w (+ 2 · c)]` to `[b, 1, h · c · q]`."""
        each, scale = self.per_value(outputs), self.window_scale
        return StepDecision(self.horizon, self._inner, channels=self.channels, each=each, window_scale=scale)

    def interpretation(self, inputs: Mapping[str, Tensor]) -> Interpretation:
        """Return what the network looks at in these windows; in the mode that it is in, so `eval()` it first.

        Args:
            inputs: The batch's tensors by input name.
        """
        with torch.no_grad():
            ready = self.ready(inputs)
            _, past, future, static, attention = self._run(to_window_scale(ready)[0] if self.window_scale else ready)
        return Interpretation(
            dict(zip(self.past_vectors.names, past.unbind(dim=-1), strict=True)),
            dict(zip(self.future_vectors.names, future.unbind(dim=-1), strict=True)),
            {} if static is None or self.static_vectors is None else dict(zip(self.static_vectors.names, static.unbind(-1), strict=True)),
            attention,
        )

    def _run(self, ready: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
        """Return the vectors of the steps ahead, and the weights: of the past's, the future's and the static variables, and attention."""
        length = self.context
        rows = ready[HISTORY].shape[0]
        fixed, static_weights = self._static(ready)
        selecting, enriching, *states = fixed
        positions = self.positions.expand(rows, -1, -1)
        past_inputs = {name: ready[name][:, :length] for name in (HISTORY, *self.past, *self.known)}
        future_inputs = {name: ready[name][:, length:] for name in self.known}
        past, past_weights = self.past_selection(self.past_vectors(past_inputs, positions[:, :length]), selecting)
        future, future_weights = self.future_selection(self.future_vectors(future_inputs, positions[:, length:]), selecting)
        selected = torch.cat((past, future), dim=1)
        locally = self.after_lstm(self._sequence(past, future, states), selected)
        enriched = self.enrichment(locally, enriching)
        found, attention = self.attention(enriched[:, length:], enriched, self.hidden)
        attended = self.feed_forward(self.after_attention(found, enriched[:, length:]))
        return self.last(attended, locally[:, length:]), past_weights, future_weights, static_weights, attention

    def _static(self, ready: Mapping[str, Tensor]) -> tuple[list[Tensor | None], Tensor | None]:
        """Return the contexts that static variables give: for selection, for enrichment, and each layer's first state and cell."""
        if self.static_vectors is None or self.static_selection is None or self.contexts is None:
            return [None] * (2 + 2 * len(self.past_layers)), None
        chosen, weights = self.static_selection(self.static_vectors({name: ready[name] for name in self.static}))
        made = [network(chosen) for network in self.contexts]
        return [made[0].unsqueeze(1), made[1].unsqueeze(1), *made[2:]], weights

    def _sequence(self, past: Tensor, future: Tensor, states: list[Tensor | None]) -> Tensor:
        """Return the states of the LSTM over past and future, `[b, l + h, w]`: the future goes on where the past ends."""
        for layer, pair in enumerate(zip(self.past_layers, self.future_layers, strict=True)):
            encoder, decoder = (cast("nn.LSTM", one) for one in pair)
            nothing = past.new_zeros(past.shape[0], past.shape[-1])
            hidden, cell = states[2 * layer], states[2 * layer + 1]
            past, last = run_from(encoder, past, hidden=nothing if hidden is None else hidden, cell=nothing if cell is None else cell)
            future, _ = run_from(decoder, future, hidden=past[:, -1], cell=last)
        return torch.cat((past, future), dim=1)
