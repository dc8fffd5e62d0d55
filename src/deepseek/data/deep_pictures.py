"""Pictures of more than 8 bits a value: grey ones of 16 bits, of whole numbers of 32 bits or of floats that hold whole numbers."""

from __future__ import annotations

import numpy as np
from PIL import Image

WHITES = (255, 1023, 4095, 16383, 65535)
"""Full brightness where a value has 8, 10, 12, 14 or 16 bits."""


def deep_values(image: Image.Image) -> np.ndarray | None:
    """Return the values of a picture that may have more than 8 bits, float64 `[h, w]`; nothing of one that has not.

    Raises:
        ValueError: It holds NaN or infinite values, or parts of full brightness.
    """
    if not image.mode.startswith("I;16") and image.mode not in ("I", "F"):
        return None
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are no finite numbers")
    if image.mode == "F" and (values.max(initial=0) <= 1 and (values % 1).any()):
        raise ValueError("it holds parts of full brightness, from 0 to 1: write whole numbers of 8 or 16 bits")
    return values


def white_over(brightest: float) -> int:
    """Return the least of `WHITES` that a value does not exceed, or the last.

    Example:
        >>> white_over(300), white_over(1e6)
        (1023, 65535)
    """
    return next((white for white in WHITES if white >= brightest), WHITES[-1])


def shades(values: np.ndarray, white: int) -> np.ndarray:
    """Return values as uint8, 255 where they are full brightness or above."""
    found: np.ndarray = (values * 255.0 / white).clip(0, 255).round().astype(np.uint8)
    return found


def shallow(image: Image.Image) -> Image.Image:
    """Return a picture to be looked at by itself: as it is, or in 8 bits where it may have more.

    Raises:
        ValueError: As of `deep_values`.
    """
    values = deep_values(image)
    return image if values is None else Image.fromarray(shades(values, white_over(values.max(initial=0))))


def brightness(image: Image.Image) -> float:
    """Return a picture's mean brightness, 0 to 255, by one measure for all: one that may have more than 8 bits is taken to have 16.

    Raises:
        ValueError: As of `deep_values`.
    """
    values = deep_values(image)
    if values is None:
        return float(np.asarray(image.convert("L")).mean())
    return float((values / 257.0).clip(0, 255).mean())
