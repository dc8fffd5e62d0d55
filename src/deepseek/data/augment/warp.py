"""Resampling of images under affine maps: many rows at once, each under a map of its own.

Pixel `i` of an axis covers `[i, i + 1)`, its centre lies at `i + 0.5`.

Legend of shapes: `b` rows · `h`, `w` height and width · `c` channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Padding = Literal["zero", "edge", "reflect"]

BLOCK_PIXELS = 1 << 18
"""Pixels that are resampled at once on a processor: the two dozen passes over them then stay in its caches."""
_LANES = 0x00FF00FF
"""Two of a pixel's four bytes, with room above each for a product with a weight of at most 256."""
_HIGH_LANES = -0x00FF0100  # 0xFF00FF00 as a signed number


def warp(x: Tensor, matrix: Tensor, *, padding: Padding = "zero", fill: float = 0.0, nearest: bool = False) -> Tensor:
    """Return images of the same size whose pixels are taken from where a map says, by bilinear interpolation.

    Pixels of one byte are interpolated in integers, four channels in one machine word: to within 2 of 255 of what floats give, in a third
    of the time, and alike on every device. A map that moves nothing changes no pixel.

    Args:
        x: `[b, h, w, c]`, of any type.
        matrix: float64 `[b, 2, 3]` on the CPU: takes a place `(x, y, 1)` of the result, in pixels, to the place in `x` that it shows.
        padding: What lies outside: `zero` (the value `fill`), the nearest pixel of the `edge`, or the image's mirror (`reflect`).
        fill: The value of pixels outside, for `zero`.
        nearest: Whether the nearest pixel is taken as it is, as masks of classes need.
    """
    if not nearest and (x.dtype != torch.uint8 or x.shape[3] > 4):
        return _interpolated(x, matrix, padding, fill)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    sample = _nearest if nearest else _bytes
    for rows in blocks(x, BLOCK_PIXELS // max(x.shape[1] * x.shape[2], 1)):
        out[rows] = sample(x[rows], matrix[rows], padding, fill)
    return out


def blocks(x: Tensor, rows: int) -> Iterator[slice]:
    """Yield the rows of a tensor in stretches that fit the caches of a processor; all at once on another device."""
    size = max(rows, 1) if x.device.type == "cpu" else max(len(x), 1)
    for start in range(0, len(x), size):
        yield slice(start, min(start + size, len(x)))


def _axis(matrix: Tensor, axis: int, x: Tensor, padding: Padding) -> Tensor:
    """Return the places along an axis of `x` that the pixels show, float32 `[b, h, w]`, 0.5 being the centre of the first pixel.

    With `zero` they reach one pixel beyond the image on either side; what is further away shows nothing else.
    """
    _, height, width, _ = x.shape
    size = (width, height)[axis]
    column = torch.arange(width, dtype=torch.float64) + 0.5
    row = torch.arange(height, dtype=torch.float64) + 0.5
    by_column = (matrix[:, axis, 0, None] * column + matrix[:, axis, 2, None]).to(x.device, torch.float32)
    by_row = (matrix[:, axis, 1, None] * row).to(x.device, torch.float32)
    place = by_column[:, None, :] + by_row[:, :, None]
    if padding == "reflect":
        place = size - (place.remainder_(2 * size) - size).abs_()
    return place.clamp_(-0.5, size + 0.5) if padding == "zero" else place.clamp_(0.5, size - 0.5)


def _interpolated(x: Tensor, matrix: Tensor, padding: Padding, fill: float) -> Tensor:
    _, height, width, _ = x.shape
    pixels = x.permute(0, 3, 1, 2).to(torch.promote_types(x.dtype, torch.float32))
    shift = fill if padding == "zero" else 0.0
    grid = torch.stack([_axis(matrix, axis, x, padding) * (2 / size) - 1 for axis, size in enumerate((width, height))], dim=-1)
    made = functional.grid_sample(pixels - shift if shift else pixels, grid.to(pixels.dtype), padding_mode="zeros", align_corners=False)
    made = (made + shift if shift else made).permute(0, 2, 3, 1)
    return made.to(x.dtype) if x.is_floating_point() else _as_integers(made, x.dtype)


def _as_integers(made: Tensor, dtype: torch.dtype) -> Tensor:
    limits = torch.iinfo(dtype)
    return made.round_().clamp_(limits.min, limits.max).to(dtype)


def _nearest(x: Tensor, matrix: Tensor, padding: Padding, fill: float) -> Tensor:
    rows, height, width, channels = x.shape
    bordered = x.new_full((rows, height + 2, width + 2, channels), fill)
    bordered[:, 1:-1, 1:-1] = x
    left, top = ((_axis(matrix, axis, x, padding) + 1).to(torch.int64) for axis in (0, 1))
    first = torch.arange(rows, device=x.device)[:, None, None] * (height + 2)
    place = (first + top) * (width + 2) + left
    return bordered.reshape(-1, channels).index_select(0, place.reshape(-1)).reshape(x.shape)


def _bytes(x: Tensor, matrix: Tensor, padding: Padding, fill: float) -> Tensor:
    """Interpolate bytes by weights of 256 parts, in integers: red and blue in one word, green and alpha in another."""
    rows, height, width, channels = x.shape
    words = _words(x, fill)
    stride = width + 3
    left, top = (_axis(matrix, axis, x, padding).add_(0.5).mul_(256).to(torch.int32) for axis in (0, 1))
    right_share, bottom_share = left & 255, top & 255
    left >>= 8
    top >>= 8
    first = torch.arange(rows, dtype=torch.int32, device=x.device) * ((height + 3) * stride)
    place = left.add_(top.mul_(stride)).add_(first[:, None, None])
    both = right_share.mul(bottom_share).add_(128).bitwise_right_shift_(8)
    right, bottom = right_share.sub_(both), bottom_share.sub_(both)
    neither = (256 - both).sub_(right).sub_(bottom)
    low: Tensor | None = None
    high: Tensor | None = None
    for step, share in ((0, neither), (1, right), (stride, bottom), (stride + 1, both)):
        found = words.narrow(0, step, len(words) - step).index_select(0, place.view(-1)).view_as(share)
        if channels == 1:
            low = found.mul_(share) if low is None else low.addcmul_(found, share)
            continue
        even = found & _LANES
        odd = found.bitwise_right_shift_(8).bitwise_and_(_LANES)
        low = even.mul_(share) if low is None else low.addcmul_(even, share)
        high = odd.mul_(share) if high is None else high.addcmul_(odd, share)
    assert low is not None, "four corners were added up"
    if high is None:
        return low.add_(128).bitwise_right_shift_(8).to(torch.uint8)[..., None]
    low = low.add_(0x00800080).bitwise_right_shift_(8).bitwise_and_(_LANES)
    low |= high.add_(0x00800080).bitwise_and_(_HIGH_LANES)
    return low[..., None].view(torch.uint8)[..., :channels]


def _words(x: Tensor, fill: float) -> Tensor:
    """Return each pixel as one int32, flat, with a border of `fill`: one pixel before and two behind, which a corner may touch."""
    rows, height, width, channels = x.shape
    pixels, border = x[..., -1].to(torch.int32), int(fill)
    for channel in reversed(range(channels - 1)):
        border = border << 8 | int(fill)
        pixels = pixels.bitwise_left_shift_(8).bitwise_or_(x[..., channel])
    border -= (border >> 31) << 32  # as a signed number
    words = torch.full((rows, height + 3, width + 3), border, dtype=torch.int32, device=x.device)
    words[:, 1:-2, 1:-2] = pixels
    return words.view(-1)
