"""Masks written as files hold the numbers that were answered."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from deepseek.data.volumes import read_volume
from deepseek.errors import DataError
from deepseek.pipeline.mask_files import MaskWriter

ROWS = pa.record_batch({"image": ["a.png"]})


@pytest.mark.parametrize("largest", [255, 65_535])
def test_a_picture_holds_its_numbers(tmp_path, largest):
    mask = np.array([[0, largest]], dtype=np.uint8 if largest < 256 else np.uint16)
    MaskWriter(tmp_path / "found").write([mask], ROWS, "image")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "found" / "a.png")), mask)


def test_numbers_that_no_png_holds_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds 70000"):
        MaskWriter(tmp_path / "found").write([np.array([[0, 70_000]])], ROWS, "image")


def test_a_volume_holds_large_numbers(tmp_path):
    pytest.importorskip("nibabel")
    mask = np.array([[[0, 70_000]]])
    MaskWriter(tmp_path / "found").write([mask], pa.record_batch({"image": ["scan.dcm"]}), "image")
    assert np.array_equal(read_volume(tmp_path / "found" / "scan.nii.gz").values, mask)
