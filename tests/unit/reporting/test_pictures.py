"""Pictures for pages are small, of the pixels that were given, and in a form that browsers know."""

import io

import numpy as np
import pytest
from PIL import Image

from deepseek.reporting.pictures import LARGEST, MARKED, SHEET_CELL, SHEET_COLUMNS, THUMBNAIL, contact_sheet, marked, picture, thumbnail


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


def test_what_is_in_a_picture_is_drawn_over_it():
    pixels = np.full((20, 40, 1), 100, np.uint8)
    places = np.zeros((20, 40), bool)
    places[5:15, 20:30] = True
    image = np.asarray(opened(marked(pixels, tints=[(places, "#ff0000")]))).astype(int)
    assert image.shape == (MARKED // 2, MARKED, 3)
    assert image[55, 140, 0] > 150 > image[55, 140, 1]
    assert np.abs(image[10, 10] - 100).max() < 6
    outlined = np.asarray(opened(marked(pixels, boxes=[((10, 5, 30, 15), "#0000ff")]))).astype(int)
    assert outlined[28, 100, 2] > 180
    assert np.abs(outlined[56, 112] - 100).max() < 6
