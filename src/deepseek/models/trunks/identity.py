"""The trunk that does nothing."""

from __future__ import annotations

from torch import Tensor

from deepseek.models.base import Trunk


class IdentityTrunk(Trunk):
    """Passes the row's vector on: the decision layer sits directly on the encoders."""

    def __init__(self, width_in: int, /) -> None:
        super().__init__(width_in)
        self.width = width_in

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, w]` to `[b, 1, w]`."""
        return x.unsqueeze(1)
