"""Where a picture lies in the size that a network is given: resized to it, or as large as fits with an even border around.

Legend of shapes: `n` pictures.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Fit = Literal["resize", "letterbox", "pad"]
"""How a picture comes to another size: both sides by themselves, with its aspect kept and a border, or cut and filled up at its scale."""


def placed_size(size: tuple[int, int], stored: tuple[int, int], fit: Fit) -> tuple[int, int, int, int]:
    """Return how high and wide a resized or letterboxed picture is in the stored size, and its top and left border, in whole pixels.

    Args:
        size: Height and width of the picture.
        stored: Height and width that it is brought to.
        fit: How.

    Example:
        >>> placed_size((100, 400), (200, 200), "letterbox")
        (50, 200, 75, 0)
    """
    if fit == "resize":
        return *stored, 0, 0
    scale = min(stored[0] / size[0], stored[1] / size[1])
    height, width = (max(1, min(round(side * scale), most)) for side, most in zip(size, stored, strict=True))
    return height, width, (stored[0] - height) // 2, (stored[1] - width) // 2


def placements(sizes: np.ndarray, stored: tuple[int, int], fit: Fit) -> np.ndarray:
    """Return how places move with their pictures: `(scale_x, scale_y, left, top)`, float64 `[n, 4]`; stored is `scale · place + border`.

    Args:
        sizes: Heights and widths, int64 `[n, 2]`; a picture without size is taken for one of the stored size.
        stored: Height and width that they are brought to.
        fit: How.
    """
    made = np.empty((len(sizes), 4))
    for row, (height, width) in enumerate(sizes.tolist()):
        if height < 1 or width < 1:
            made[row] = (1.0, 1.0, 0.0, 0.0)
            continue
        high, wide, top, left = placed_size((height, width), stored, fit)
        made[row] = (wide / width, high / height, left, top)
    return made


def frames(sizes: np.ndarray, stored: tuple[int, int], fit: Fit) -> np.ndarray:
    """Return where the stored frame lies in each picture, in its own pixels, and how large the picture is, float64 `[n, 6]`.

    They are `(left, top, width, height, picture_width, picture_height)`: a place that is a part `p` of the stored frame lies at
    `left + p · width`. Of a letterboxed picture the frame reaches beyond it.

    Args:
        sizes: Heights and widths, int64 `[n, 2]`.
        stored: Height and width that they were brought to.
        fit: How.
    """
    moved = placements(sizes, stored, fit)
    scale, border = moved[:, :2], moved[:, 2:]
    size = np.array([stored[1], stored[0]], dtype=np.float64)
    return np.hstack([-border / scale, size / scale, np.where(sizes[:, ::-1] > 0, sizes[:, ::-1], size)])
