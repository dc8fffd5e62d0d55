"""Small pictures for pages, from pixels: PNG and JPEG as bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageOps

THUMBNAIL = 96
MARKED = 224
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Colours that are told apart also by those who see few (Okabe and Ito, 2008, https://jfly.uni-koeln.de/color/), for classes in turn."""
_TINT = 0.45
LARGEST = 160
SHEET_COLUMNS, SHEET_CELL = 6, 88
OUTLINE = (255, 64, 64)


def thumbnail(pixels: np.ndarray) -> bytes:
    """Return an image, uint8 `[height, width, channels]`, as a small JPEG."""
    plain = pixels[..., 0] if pixels.shape[-1] in (1, 2) else pixels[..., :3]
    image = Image.fromarray(np.ascontiguousarray(plain))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    if max(image.size) < THUMBNAIL:
        factor = max(THUMBNAIL // max(image.size), 1)
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return _encoded(image, "JPEG", quality=80)


def contact_sheet(pictures: Sequence[Image.Image]) -> bytes:
    """Return several images side by side, each in a square cell, as one PNG."""
    rows = -(-len(pictures) // SHEET_COLUMNS)
    sheet = Image.new("RGBA", (SHEET_CELL * min(len(pictures), SHEET_COLUMNS), SHEET_CELL * rows))
    for number, image in enumerate(pictures):
        shown = image.convert("L" if image.mode in {"1", "L", "I", "F"} else "RGB")
        shown = ImageOps.contain(shown, (SHEET_CELL - 8, SHEET_CELL - 8), Image.Resampling.NEAREST)
        sheet.paste(shown, (SHEET_CELL * (number % SHEET_COLUMNS), SHEET_CELL * (number // SHEET_COLUMNS)))
    return _encoded(sheet, "PNG")


def picture(pixels: np.ndarray, boxes: np.ndarray | None = None) -> bytes:
    """Return an image as a PNG of at most `LARGEST` pixels on each side.

    Args:
        pixels: uint8 `[height, width, channels]`.
        boxes: What is outlined in it: left, top, right and bottom in pixels, `[n, 4]`; those without width are none.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    factor = min(LARGEST / max(image.size), 1.0)
    image.thumbnail((LARGEST, LARGEST))
    if boxes is not None:
        image = image.convert("RGB")
        pen = ImageDraw.Draw(image)
        for left, top, right, bottom in boxes[boxes[:, 2] > boxes[:, 0]] * factor:
            pen.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=OUTLINE)
    return _encoded(image, "PNG")


def marked(pixels: np.ndarray, *, boxes: Sequence[tuple[Sequence[float], str]] = (), tints: Sequence[tuple[np.ndarray, str]] = ()) -> bytes:
    """Return an image with what is in it drawn over it, as a JPEG of about `MARKED` pixels on its longer side.

    Args:
        pixels: uint8 `[height, width, channels]`; of other than three channels the first is shown.
        boxes: What is outlined: left, top, right and bottom in pixels, and the colour, each.
        tints: What is coloured in: bool `[height, width]` and the colour, each.
    """
    shown = pixels if pixels.shape[-1] == 3 else pixels[..., :1].repeat(3, axis=-1)
    for places, colour in tints:
        mixed = shown[places] * (1 - _TINT) + np.array(ImageColor.getrgb(colour)) * _TINT
        shown = shown.copy()
        shown[places] = mixed.round().astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(shown))
    factor = MARKED / max(image.size)
    image = image.resize(
        (max(round(image.width * factor), 1), max(round(image.height * factor), 1)),
        Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BILINEAR,
    )
    pen = ImageDraw.Draw(image)
    for edges, colour in boxes:
        left, top, right, bottom = (edge * factor for edge in edges)
        pen.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=colour, width=2)
    return _encoded(image, "JPEG", quality=85, subsampling=0)  # thin lines keep their colour


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    with io.BytesIO() as file:
        image.save(file, form, **options)
        return file.getvalue()
