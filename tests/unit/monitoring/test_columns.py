import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from deepseek.fields import Kind
from deepseek.monitoring.columns import IMAGES, counted_names, fold, measured, sketch_of


def test_numbers_texts_and_what_is_no_number():
    assert measured(pa.array([1, None, 3]), Kind.NUMBER).tolist() == pytest.approx([1, np.nan, 3], nan_ok=True)
    assert measured(pa.array(["1.5", " 2 ", "?"]), Kind.NUMBER).tolist() == pytest.approx([1.5, 2, np.nan], nan_ok=True)
    assert measured(pa.array(["", "größe", None]), Kind.TEXT).tolist() == pytest.approx([0, 5, np.nan], nan_ok=True)


def test_names_are_spelled_as_in_training():
    for column in (pa.array([1, 2, 1, None]), pa.array([1.0, 2.0, 1.0, None]), pa.array(["1", "2", "1", None]).dictionary_encode()):
        assert counted_names(column, "x") == ({"1": 2, "2": 1}, 1)
    assert counted_names(pa.nulls(3), "x") == ({}, 3)


def test_images_by_brightness(tmp_path):
    def png(value):
        out = io.BytesIO()
        Image.new("RGB", (8, 8), (value,) * 3).save(out, "PNG")
        return out.getvalue()

    (tmp_path / "a.png").write_bytes(png(200))
    assert measured(pa.array([png(10), None, b"broken"]), Kind.IMAGE).tolist() == pytest.approx([10, np.nan, np.nan], nan_ok=True)
    assert measured(pa.array(["a.png", "gone.png"]), Kind.IMAGE, str(tmp_path)).tolist() == pytest.approx([200, np.nan], nan_ok=True)
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.full((2, 4, 4), 30, np.uint8))
    assert measured(tensor, Kind.IMAGE).tolist() == [30, 30]
    many = pa.array([png(1)] * (2 * IMAGES))
    assert len(measured(many, Kind.IMAGE)) == IMAGES


def test_the_brightness_of_pictures_of_sixteen_bits_is_not_cut_off(tmp_path):
    for name, value in (("night", 300), ("day", 30_000)):
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / f"{name}.png")
    found = measured(pa.array(["night.png", "day.png"]), Kind.IMAGE, str(tmp_path))
    assert found.tolist() == pytest.approx([300 / 257, 30_000 / 257])


def test_columns_that_are_gone_or_changed_are_named_and_count_as_missing():
    table = pa.table({"age": [1.0, 2.0] * 10, "city": ["a"] * 20})
    kinds = {"age": Kind.NUMBER, "city": Kind.CATEGORY}
    sketches = {name: sketch_of(table, name, kind).empty() for name, kind in kinds.items()}
    assert fold(sketches, kinds, pa.record_batch({"age": pa.array([[1], [2]]), "town": pa.array(["a", "b"])})) == ["age", "city"]
    assert [(sketch.rows, sketch.missing) for sketch in sketches.values()] == [(2, 2), (2, 2)]
