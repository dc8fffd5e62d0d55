"""What networks that forecast share: they find the past, what is known ahead and what never changes among their inputs.

Legend of shapes: `b` windows · `l` steps of the past · `h` steps ahead · `c` target columns · `q` numbers wanted for each value.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.data.windows.rules import HISTORY, HISTORY_KNOWN, role_of
from deepseek.errors import InputError
from deepseek.models.network import FeatureNetwork

Inputs = Mapping[str, InputSpec]
Graph = Mapping[str, nn.Module]
_LEAST_VARIANCE = 1e-5
"""Of standardised values: the deviation of a past that stands still is not taken for 0."""


class Forecaster(FeatureNetwork):
    """A network whose features belong to steps ahead, and which has a decision layer of its own.

    Wiring and graph transforms are a network's; there are no encoders, fusion and trunk.

    Args:
        inputs: What the network meets, `history` among it.
        graph: The part of the transforms that runs inside the network.

    Attributes:
        history: The description of the targets' past, `[l, c]`.
        horizon: `h`.
        past: The inputs that are known of the past only, by name, without the history.
        known: The inputs that are known of the future too, `[l + h, …]`, by name.
        static: The inputs that never change within a series, by name.

    Raises:
        InputError: There is no history: the data are no windows.
    """

    def __init__(self, inputs: Inputs, graph: Graph, /) -> None:
        super().__init__(inputs, graph)
        seen = self.seen
        if HISTORY not in seen or not seen[HISTORY].horizon:
            raise InputError(
                f"the network {type(self).__name__} forecasts, and the data have no history",
                hint="name data.time, and the task as {type: forecasting, horizon: …}",
            )
        self.history = seen[HISTORY]
        self.horizon = self.history.horizon
        by_role = {name: role_of(name) for name in seen if name != HISTORY}
        self.past, self.known, self.static = (
            {name: seen[name] for name, role in by_role.items() if role in roles} for roles in ((None, "observed"), ("known",), ("static",))
        )

    @property
    def context(self) -> int:
        """`l`."""
        return self.history.shape[0]

    @property
    def channels(self) -> int:
        """`c`."""
        return self.history.shape[1]

    def per_value(self, outputs: int) -> int:
        """Return `q`: how many of a task's outputs belong to one value of one step.

        Raises:
            InputError: The outputs do not divide among the values: the task is no forecast.
        """
        values = self.horizon * self.channels
        if outputs % values:
            raise InputError(
                f"the task wants {outputs} outputs of a network for {self.horizon} steps of {self.channels} targets",
                hint="forecasting networks go with task: {type: forecasting, …}",
            )
        return outputs // values


def to_window_scale(ready: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """Return inputs whose history has mean 0 and deviation 1 in each window and column, and these means and deviations, `[b, 2 · c]`.

    A level or a width that was never seen in training is then no stranger; `StepDecision` brings forecasts back. Source: Kim et al.,
    "Reversible instance normalization for accurate time-series forecasting against distribution shift", ICLR 2022,
    https://openreview.net/forum?id=cGDAkQo1C0p; without its weights, which the layers behind have anyway. One value has no deviation:
    where no more is known of a past, the deviation is that of training, 1, and where nothing is, the mean is that of training, 0.

    Args:
        ready: The inputs, the history as `[b, l, c]`; where it has gaps, also which of its values are known.

    Example:
        >>> past = torch.tensor([[[998.0], [1002.0]]])
        >>> scaled, statistics = to_window_scale({"history": past})
        >>> scaled["history"].flatten().round(decimals=3).tolist(), statistics.round(decimals=3).tolist()
        ([-1.0, 1.0], [[1000.0, 2.0]])
    """
    history = ready[HISTORY]
    known = ready[HISTORY_KNOWN] if HISTORY_KNOWN in ready else torch.ones_like(history)  # gaps have no say, and stay 0
    count = known.sum(dim=1, keepdim=True)
    mean = (history * known).sum(dim=1, keepdim=True) / count.clamp(min=1.0)
    apart = (history - mean) * known
    variance = apart.square().sum(dim=1, keepdim=True) / count.clamp(min=1.0) + _LEAST_VARIANCE
    deviation = torch.where(count > 1.0, variance, 1.0).sqrt()
    return {**ready, HISTORY: apart / deviation}, torch.cat((mean, deviation), dim=2).flatten(1)


class StepDecision(nn.Module):
    """One linear layer for the vectors of all steps ahead.

    Args:
        horizon: `h`.
        width: `w`.
        channels: `c`.
        each: `q`.
        window_scale: Whether each column's mean and deviation stand behind the vectors, to which forecasts are brought back.

    Shape:
        `[b, 1, h · w (+ 2 · c)]` to `[b, 1, h · c · q]`.
    """

    def __init__(self, horizon: int, width: int, *, channels: int, each: int, window_scale: bool) -> None:
        super().__init__()
        self._steps, self._values, self._window_scale = (horizon, width), (horizon, channels, each), window_scale
        self.linear = nn.Linear(width, channels * each)

    def forward(self, features: Tensor) -> Tensor:
        """Return the numbers, step after step."""
        flat = features.squeeze(1)
        vectors = flat[:, : self._steps[0] * self._steps[1]]
        out: Tensor = self.linear(vectors.reshape(-1, *self._steps))
        if self._window_scale:
            mean, deviation = flat[:, vectors.shape[1] :].reshape(-1, 2, 1, self._values[1], 1).unbind(dim=1)
            out = out.reshape(-1, *self._values) * deviation + mean
        return out.flatten(1).unsqueeze(1)
