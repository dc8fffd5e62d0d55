from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from deepseek.data.deep_pictures import brightness, deep_values, shades, shallow, white_over

VALUES = np.array([[0, 200], [2_570, 4_000]])


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_values_of_more_than_eight_bits_are_as_they_are_stored(kind):
    image = Image.fromarray(VALUES.astype(kind))
    assert deep_values(image).tolist() == VALUES.tolist()
    assert brightness(image) == pytest.approx(VALUES.mean() / 257)
    assert np.asarray(shallow(image)).tolist() == [[0, 12], [160, 249]]  # of 4095


def test_a_picture_of_eight_bits_is_as_it_is():
    image = Image.new("RGB", (2, 2), (10, 10, 10))
    assert deep_values(image) is None
    assert shallow(image) is image
    assert brightness(image) == 10.0


def test_pictures_alike_but_for_their_light_differ_in_brightness_whatever_their_depth():
    night, day = (Image.fromarray(np.full((4, 4), value, np.uint16)) for value in (300, 30_000))
    assert brightness(day) == pytest.approx(100 * brightness(night))


def test_what_is_no_picture_is_said():
    with pytest.raises(ValueError, match="no finite numbers"):
        deep_values(Image.fromarray(np.array([[np.inf]], np.float32)))
    with pytest.raises(ValueError, match="parts of full brightness"):
        deep_values(Image.fromarray(np.array([[0.5]], np.float32)))


def test_full_brightness_is_white():
    assert [white_over(value) for value in (0, 255, 256, 65_536)] == [255, 255, 1023, 65_535]
    assert shades(np.array([-1.0, 0.0, 511.5, 1023.0, 2000.0]), 1023).tolist() == [0, 0, 128, 255, 255]
