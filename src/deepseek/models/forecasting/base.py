"""What networks that forecast share: they find the past, what is known ahead and what never changes among their inputs.

Legend of shapes: `b` windows · `l` steps of the past · `h` steps ahead · `c` target columns · `q` numbers wanted for each value.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from deepseek.data.transforms.base import InputSpec
from deepseek.data.windows.rules import HISTORY, role_of
from deepseek.errors import InputError
from deepseek.models.network import FeatureNetwork

Inputs = Mapping[str, InputSpec]
Graph = Mapping[str, nn.Module]


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
