"""What is done to series inside the network: scaled by the training rows, missing values put at their mean.

Legend of shapes: `b` rows · `l` steps · `k` values a step.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_WIDEST = 1e6
"""Standard deviations that nothing lies beyond before it is squared."""


class SeriesModule(nn.Module):
    """Brings each value of a step to mean 0 and standard deviation 1, and bounds it smoothly.

    Args:
        mean: What is taken away, `[k]`.
        std: What is divided by, `[k]`, above 0.
        clip: The bound on the absolute value after scaling, approached as `x / sqrt(1 + (x / clip)²)`; nothing for none.

    Shape:
        `[b, l, k]`, NaN where a value is missing, and the mask `[b, l]` to `[b, l, k]` without NaN, zeros behind each row's end, and the
        mask.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, mean: np.ndarray, std: np.ndarray, *, clip: float | None) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.from_numpy(np.asarray(mean, np.float32)))
        self.register_buffer("factor", torch.from_numpy((1.0 / np.asarray(std, np.float64)).astype(np.float32)))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scaled steps and their mask."""
        known = ~torch.isnan(x) & mask.unsqueeze(-1)
        scaled = (torch.where(known, x, self.mean) - self.mean) * self.factor
        if self.clip is not None:
            scaled = scaled.clamp(-_WIDEST, _WIDEST)
            scaled = scaled * torch.rsqrt(1 + (scaled / self.clip).square())
        return scaled, mask

    def present(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return bool `[b]`: which rows have a series at all; a missing one is stored as one step without any value."""
        return (~torch.isnan(x) & mask.unsqueeze(-1)).flatten(1).any(dim=1)
