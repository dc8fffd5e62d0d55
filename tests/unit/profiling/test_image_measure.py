from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from deepseek.profiling.measures import ImageMeasure


def test_pictures_of_sixteen_bits_are_measured_by_their_light_and_shown_at_their_own_depth(tmp_path):
    for name, value in (("night", 300), ("day", 30_000)):
        Image.fromarray(np.array([[0, value]], np.uint16)).save(tmp_path / f"{name}.png")
    found = ImageMeasure(pa.chunked_array([["night.png", "day.png"]]), str(tmp_path))
    assert found.brightness == pytest.approx([150 / 257, 15_000 / 257])
    assert [np.asarray(one).tolist() for one in found.pictures] == [[[0, 75]], [[0, 117]]]
