"""Pictures for pages are small, of the pixels that were given, and in a form that browsers know."""

import io

import numpy as np
import pytest
from PIL import Image

from deepseek.reporting.pictures import LARGEST, SHEET_CELL, SHEET_COLUMNS, THUMBNAIL, contact_sheet, picture, thumbnail


def opened(data):
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("size", "shown"), [(300, THUMBNAIL), (20, 4 * 20)])
def test_a_thumbnail_is_scaled_to_be_seen(channels, size, shown):
    image = opened(thumbnail(np.full((size, size, channels), 200, np.uint8)))
    assert (image.format, image.size) == ("JPEG", (shown, shown))
    assert abs(int(np.asarray(image).max()) - 200) <= 2


def test_a_picture_keeps_its_pixels_and_large_ones_shrink():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(opened(picture(pixels))), pixels)
    assert np.array_equal(np.asarray(opened(picture(pixels[..., :1]))), pixels[..., 0])
    assert max(opened(picture(np.zeros((1000, 500, 3), np.uint8))).size) == LARGEST


def test_a_contact_sheet_has_a_cell_for_each_image():
    sheet = opened(contact_sheet([Image.new(mode, (30, 10)) for mode in ("1", "L", "RGB", "RGBA", "P", "I;16", "CMYK")]))
    assert (sheet.format, sheet.size) == ("PNG", (SHEET_COLUMNS * SHEET_CELL, 2 * SHEET_CELL))


def test_boxes_are_outlined_in_a_picture_made_smaller():
    pixels = np.zeros((320, 320, 1), np.uint8)
    shown = np.asarray(opened(picture(pixels, np.array([[40.0, 80.0, 120.0, 160.0], [0.0, 0.0, 0.0, 0.0]]))))
    down, across = np.nonzero(shown[..., 0] > 200)
    assert (down.min(), across.min(), down.max() + 1, across.max() + 1) == (40, 20, 80, 60)
    assert shown[60, 40].tolist() == [0, 0, 0]
    assert not np.asarray(opened(picture(pixels))).any()
