"""Graph transforms of rows, put to every step of a window.

Legend of shapes: `b` windows · `l` steps · `f` columns in · `g` columns out.
"""

from __future__ import annotations

from torch import Tensor, nn


class PerStep(nn.Module):
    """Runs a module for rows on every step of windows.

    Args:
        module: Maps `[rows, f]` to `[rows, g]`.

    Shape:
        `[b, l, f]` to `[b, l, g]`.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Return the steps as the module leaves them."""
        out: Tensor = self.module(x.flatten(0, 1))
        return out.reshape(-1, x.shape[1], out.shape[-1])
