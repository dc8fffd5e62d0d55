"""Small pictures for pages, from pixels: PNG and JPEG as bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

THUMBNAIL = 96
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


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    with io.BytesIO() as file:
        image.save(file, form, **options)
        return file.getvalue()
