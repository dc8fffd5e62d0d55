"""The parts of transforms that run inside the model: arithmetic on tensors, free of control flow that depends on data, so that it exports.

Legend of shapes: `b` rows · `f` columns in · `i` indicator columns · `k` knots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_LARGEST = float(np.finfo(np.float32).max)
_LARGE_CENTER = 1e30
_CLIPPED = 1e9
"""So many times the clip, a value is the clip itself to float32's precision; the square of it is within range."""


def _buffer(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))


class QuantileMap(nn.Module):
    """A monotone, piecewise linear map for each column, found by a branch-free binary search; ends are held beyond the knots.

    Args:
        knots: `[f, k]`, strictly rising in each row up to its end; the rest of a row is infinite.
        scores: `[f, k]`: what each knot maps to.

    Shape:
        `[b, f]` to `[b, f]`; `log2(k)` gathers of `b * f` elements, never `b * f * k` of anything.
    """

    knots: Tensor
    scores: Tensor
    slopes: Tensor
    low: Tensor
    high: Tensor
    rows: Tensor

    def __init__(self, knots: np.ndarray, scores: np.ndarray) -> None:
        super().__init__()
        columns, self._size = knots.shape[0], 1 << max(1, math.ceil(math.log2(max(knots.shape[1], 2))))
        knots32, scores32 = knots.astype(np.float32), scores.astype(np.float32)
        table = np.full((columns, self._size), np.inf, dtype=np.float32)
        table[:, : knots.shape[1]] = knots32
        heights = np.zeros_like(table)
        heights[:, : knots.shape[1]] = scores32
        slopes = np.zeros_like(table)
        both = np.isfinite(table[:, 1:]) & (table[:, 1:] > table[:, :-1])
        width = np.where(
            both, np.where(np.isfinite(table[:, 1:]), table[:, 1:], 1) - np.where(np.isfinite(table[:, :-1]), table[:, :-1], 0), 1
        )
        slopes[:, :-1] = np.where(both, (heights[:, 1:] - heights[:, :-1]) / width, 0)
        self.register_buffer("knots", _buffer(table.reshape(-1)))
        self.register_buffer("scores", _buffer(heights.reshape(-1)))
        self.register_buffer("slopes", _buffer(slopes.reshape(-1)))
        self.register_buffer("low", _buffer(knots32[:, 0]))
        self.register_buffer("high", _buffer(np.where(np.isfinite(knots32), knots32, -np.inf).max(axis=1)))
        self.register_buffer("rows", torch.arange(columns) * self._size)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, f]` without NaN to `[b, f]`."""
        x = torch.minimum(torch.maximum(x, self.low), self.high)
        place = self.rows.expand(x.shape)
        step = self._size // 2
        while step:
            place = place + step * (x >= self.knots[place + step]).long()
            step //= 2
        return self.scores[place] + self.slopes[place] * (x - self.knots[place])


class NumberModule(nn.Module):
    """Fills missing numbers, scales, clips, and appends indicator columns.

    Args:
        fill: `[f]`: what stands in for NaN.
        center: `[f]`, subtracted.
        scale: `[f]`, divided by.
        indicators: The positions of the columns that get an indicator.
        clip: The bound on the absolute value that leaves, or nothing; approached smoothly, as `x / sqrt(1 + (x / clip)²)`, by any float32
            value.
        quantiles: Knots and scores of a quantile map, in the place of centring and scaling.

    Shape:
        `[b, f]` to `[b, f + i]`.
    """

    fill: Tensor
    center: Tensor
    factor: Tensor
    indicators: Tensor

    def __init__(
        self,
        fill: Sequence[float],
        center: Sequence[float],
        *,
        scale: Sequence[float],
        indicators: Sequence[int] = (),
        clip: float | None = None,
        quantiles: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("fill", _buffer(fill))
        centers = np.asarray(center, dtype=np.float64)
        # beside a center this large a difference can leave float32's range; halves cannot, and halving rounds nothing
        self._share = 0.5 if (np.abs(centers) > _LARGE_CENTER).any() else 1.0
        self.register_buffer("center", _buffer(centers * self._share))
        self.register_buffer("factor", _buffer(np.minimum(1 / np.asarray(scale, dtype=np.float64) / self._share, _LARGEST)))
        self.register_buffer("indicators", torch.tensor(list(indicators), dtype=torch.int64))
        self.clip = clip
        self.map = None if quantiles is None else QuantileMap(*quantiles)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, f]`, NaN where missing, to `[b, f + i]` without NaN."""
        missing = torch.isnan(x)
        filled = torch.where(missing, self.fill, x)
        out = self._scaled(filled) if self.map is None else self.map(filled)
        if self.clip is not None:
            bound = min(_CLIPPED * self.clip, _LARGEST)
            out = out.clamp(-bound, bound)  # the square of what is beyond would be infinite
            out = out * torch.rsqrt(1 + (out / self.clip).square())
        if self.indicators.numel():
            out = torch.cat([out, missing.index_select(1, self.indicators).to(out.dtype)], dim=1)
        return out

    def _scaled(self, x: Tensor) -> Tensor:
        halved = x if self._share == 1.0 else x * self._share
        return (halved - self.center) * self.factor


class OneHotModule(nn.Module):
    """Spreads category codes over 0/1 columns, one for each category; missing and unknown (code 0) are all zeros.

    Args:
        cardinalities: How many codes each column has, code 0 included.

    Shape:
        int `[b, f]` to float32 `[b, sum(cardinalities) - f]`.
    """

    columns: Tensor
    codes: Tensor

    def __init__(self, cardinalities: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("columns", torch.tensor([column for column, size in enumerate(cardinalities) for _ in range(1, size)]).long())
        self.register_buffer("codes", torch.tensor([code for size in cardinalities for code in range(1, size)]).long())

    def forward(self, x: Tensor) -> Tensor:
        """Return the 0/1 columns of `[b, f]` codes."""
        return (x.index_select(1, self.columns) == self.codes).to(torch.float32)


class TimestampModule(nn.Module):
    """Scales days, and puts the hour of the day, the day of the week and the day of the year on circles.

    Args:
        scale: `[f]`: days are divided by it.
        indicators: The positions of the columns that get an indicator.

    Shape:
        `[b, 5 f]` (all columns' days, then shares of the day, of the week, of the year, and months) to `[b, 8 f + i]`.
    """

    factor: Tensor
    indicators: Tensor

    def __init__(self, scale: Sequence[float], indicators: Sequence[int] = ()) -> None:
        super().__init__()
        self._columns = len(scale)
        self.register_buffer("factor", _buffer(1 / np.asarray(scale, dtype=np.float64)))
        self.register_buffer("indicators", torch.tensor(list(indicators), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Map parts, NaN where missing, to numbers; all of a missing column's are 0."""
        days, shares, months = torch.split(x, [self._columns, 3 * self._columns, self._columns], dim=1)
        angle = shares * (2 * math.pi)
        out = torch.cat([days * self.factor, angle.sin(), angle.cos(), (months - 6.5) / 3.45], dim=1)
        out = torch.where(torch.isnan(out), 0.0, out)
        if self.indicators.numel():
            out = torch.cat([out, torch.isnan(days).index_select(1, self.indicators).to(out.dtype)], dim=1)
        return out


class ImageModule(nn.Module):
    """Turns stored pixels into normalised, channel-first floats.

    Args:
        mean: `[c]`, in the units of stored pixels (0 to 255).
        std: `[c]`, in the same units, above 0.

    Shape:
        uint8 `[b, h, w, c]` to float32 `[b, c, h, w]`; the memory stays channels-last, which convolutions are fastest on.
    """

    factor: Tensor
    shift: Tensor
    absent: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        spread = np.asarray(std, dtype=np.float64)
        # follows from the arguments, and so needs no place among the weights
        self.register_buffer("absent", _buffer(np.rint(mean)), persistent=False)
        self.register_buffer("factor", _buffer(1 / spread).reshape(-1, 1, 1))
        self.register_buffer("shift", _buffer(-np.asarray(mean, dtype=np.float64) / spread).reshape(-1, 1, 1))

    def present(self, x: Tensor) -> Tensor:
        """Return bool `[b]`: which rows have an image; a missing one is stored as the mean colour throughout, which no photograph is."""
        return (x != self.absent).flatten(1).any(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised images."""
        return x.permute(0, 3, 1, 2).to(self.factor.dtype) * self.factor + self.shift


class VolumeModule(nn.Module):
    """Puts the channels of volumes first, and brings brightness to a scale that is the same for all volumes.

    Args:
        low: What brightness is raised to at least; nothing for no bound.
        high: What it is lowered to at most.
        mean: What is taken from it then.
        std: What it is divided by then, above 0.

    Shape:
        float32 `[b, d, h, w, c]` to `[b, c, d, h, w]`.
    """

    def __init__(self, low: float | None, high: float | None, *, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised volumes."""
        x = x.permute(0, 4, 1, 2, 3)
        if self.low is not None or self.high is not None:
            x = x.clamp(self.low, self.high)
        return x if (self.mean, self.std) == (0.0, 1.0) else (x - self.mean) / self.std
