from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from deepseek.data.transforms import group_fields
from deepseek.data.transforms.image import ImageTransform
from deepseek.errors import DataError, InputError
from deepseek.fields import Field, Kind, Schema

FIELD = Field("photo", Kind.IMAGE)


def tensor_batch(pixels):
    return pa.record_batch({"photo": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)})


def path_batch(root, names):
    schema = pa.schema([pa.field("photo", pa.string(), metadata={"deepseek.root": str(root)})])
    return pa.record_batch([pa.array(names, pa.string())], schema=schema)


def fit(batch, **arguments):
    transform = ImageTransform([FIELD], **arguments)
    transform.observe(batch)
    transform.finish()
    return transform


def test_pixels_are_taken_without_copying_and_normalised_by_training():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
    batch = tensor_batch(pixels)
    transform = fit(batch)
    stored = transform.apply(batch)["photo"]
    assert stored.ctypes.data == batch.column(0).storage.flatten().to_numpy().ctypes.data
    out = transform.module()(torch.from_numpy(stored.copy()))
    assert out.shape == (20, 3, 6, 5)
    np.testing.assert_allclose(out.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((0, 2, 3), correction=0), 1, atol=1e-5)


def test_grey_files_stay_grey_and_sizes_become_the_median(tmp_path):
    for name, size in (("a.png", (4, 8)), ("b.png", (6, 10)), ("c.png", (8, 12))):
        Image.new("L", size, 100).save(tmp_path / name)
    batch = path_batch(tmp_path, ["a.png", "b.png", "c.png"])
    assert fit(batch).inputs[0].shape == (10, 6, 1)
    assert fit(batch, channels=3, size=7).apply(batch)["photo"].shape == (3, 7, 7, 3)


def test_one_colour_image_makes_all_three_channels(tmp_path):
    Image.new("L", (4, 4), 100).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4), (200, 0, 0)).save(tmp_path / "b.png")
    assert fit(path_batch(tmp_path, ["a.png", "b.png"])).inputs[0].shape == (4, 4, 3)


def test_the_camera_s_orientation_is_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert fit(path_batch(tmp_path, ["turned.jpg"])).inputs[0].shape == (8, 4, 3)


def test_bytes_are_read_as_files_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    transform = fit(tensor_batch(np.stack([pixels, pixels])))
    np.testing.assert_array_equal(transform.apply(pa.record_batch({"photo": [buffer.getvalue()]}))["photo"][0], pixels)


def test_a_corrupt_file_is_named_and_can_be_set_aside(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    batch = path_batch(tmp_path, ["good.png", "broken.png", "absent.png", None])
    transform = fit(batch, missing="fail")
    assert transform.bad(batch).tolist() == [False, True, True, True]
    with pytest.raises(DataError, match=r"row 1 of the batch: the image .*broken\.png"):
        transform.apply(batch)
    with pytest.raises(DataError, match="row 0 of the batch: the image in column 'photo' is missing"):
        transform.apply(batch.slice(3))


def test_a_missing_image_is_the_mean_colour_and_zero_in_the_network(tmp_path):
    for name, grey in (("dark.png", 40), ("light.png", 90)):
        Image.new("L", (4, 4), grey).save(tmp_path / name)
    batch = path_batch(tmp_path, ["dark.png", None, "light.png", "absent.png"])
    transform = fit(batch)
    assert transform.bad(batch).tolist() == [False, False, False, True]
    assert transform.warnings == ("25.0% of the training rows have no image in 'photo' and get the mean colour of the others",)
    stored = transform.apply(batch.slice(0, 3))["photo"]
    assert stored[:, 0, 0, 0].tolist() == [40, 65, 90]
    assert transform.module()(torch.from_numpy(stored))[1].abs().max() == 0


def test_where_the_image_is_all_there_is_a_row_without_one_is_bad():
    alone = group_fields(Schema((FIELD,)))
    beside = group_fields(Schema((FIELD, Field("age", Kind.NUMBER))))
    assert [transform.missing for transform in alone.build()] == ["fail"]
    assert [transform.missing for transform in beside.build() if isinstance(transform, ImageTransform)] == ["mean"]


def test_no_readable_image_and_two_columns_are_errors(tmp_path):
    with pytest.raises(DataError, match="no readable image"):
        fit(path_batch(tmp_path, ["absent.png"]))
    with pytest.raises(InputError, match="2 columns"):
        ImageTransform([FIELD, Field("other", Kind.IMAGE)])


def test_a_pre_trained_networks_mean_and_spread_take_the_place_of_the_measured_ones():
    batch = tensor_batch(np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8))
    transform = fit(batch, mean=[0.5, 0.4, 0.3], std=[0.25, 0.2, 0.1])
    pixels = torch.from_numpy(transform.apply(batch)["photo"].copy())
    wanted = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.25, 0.2, 0.1])[
        :, None, None
    ]
    torch.testing.assert_close(transform.module()(pixels), wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(fit(batch).module()(pixels), wanted, atol=1e-2)
    with pytest.raises(InputError, match="mean has 1 numbers, and the images 3 channels"):
        fit(batch, mean=[0.5])


def test_parts_of_full_brightness_are_refused_instead_of_read_as_black(tmp_path):
    Image.fromarray(np.array([[0.0, 0.4], [0.6, 1.0]], dtype=np.float32)).save(tmp_path / "parts.tif")
    Image.fromarray(np.array([[0.0, 40.5], [60.0, 255.0]], dtype=np.float32)).save(tmp_path / "whole.tif")
    batch = pa.record_batch({"photo": [str(tmp_path / "parts.tif"), str(tmp_path / "whole.tif")]})
    transform = ImageTransform([Field("photo", Kind.IMAGE)])
    transform.observe(batch)
    transform.finish()
    assert transform.bad(batch).tolist() == [True, False]
    with pytest.raises(DataError, match="parts of full brightness"):
        transform.apply(batch)


def deep_batch(root, **pictures):
    for name, values in pictures.items():
        Image.fromarray(np.asarray(values, np.uint16)).save(root / f"{name}.png")
    return path_batch(root, [f"{name}.png" for name in pictures])


def test_dark_pictures_of_sixteen_bits_stay_dark_beside_the_others(tmp_path):
    batch = deep_batch(tmp_path, bright=[[0, 60_000], [30_000, 65_535]], dark=[[0, 200], [100, 255]])
    made = fit(batch).apply(batch)["photo"][..., 0].tolist()
    assert made == [[[0, 233], [117, 255]], [[0, 1], [0, 1]]]


@pytest.mark.parametrize(("brightest", "white"), [(255, 255), (256, 1023), (4095, 4095), (4096, 16383), (65_535, 65_535)])
def test_full_brightness_is_what_no_training_picture_exceeds(tmp_path, brightest, white):
    values = np.linspace(0, brightest, 64).round().reshape(8, 8)
    transform = fit(deep_batch(tmp_path, a=values))
    assert transform.to_json()["white"] == white
    made = transform.apply(deep_batch(tmp_path, a=values, b=np.minimum(values * 2, 65_535)))["photo"][..., 0]
    assert (made[0] == (values * 255 / white).round()).all()
    assert (made[1] == np.minimum(values * 2 * 255 / white, 255).round()).all()  # what is brighter than any in training is white
    assert (transform.read_pixels("b.png", tmp_path)[..., 0] == made[1]).all()  # as tiles are cut from
    again = ImageTransform([FIELD]).load_json(transform.to_json())
    assert (again.apply(deep_batch(tmp_path, a=values))["photo"][0, ..., 0] == made[0]).all()


def test_statistics_of_deep_and_shallow_pictures_are_those_of_what_is_trained_on(tmp_path):
    draw = np.random.default_rng(0)
    batch = deep_batch(tmp_path, a=draw.integers(0, 4096, (8, 8)), b=draw.integers(0, 300, (8, 8)))
    Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / "c.png")
    batch = path_batch(tmp_path, ["a.png", "b.png", "c.png"])
    transform = fit(batch)
    stored = transform.apply(batch)["photo"].astype(float)
    state = transform.to_json()
    assert (state["white"], state["mean"], state["std"]) == (
        4095,
        [pytest.approx(stored.mean(), abs=0.3)],
        [pytest.approx(stored.std(), rel=0.01)],
    )


def test_sums_of_many_bright_pictures_do_not_overflow(tmp_path):
    transform = ImageTransform([FIELD])
    transform.observe(deep_batch(tmp_path, a=np.full((4, 4), 65_535)))
    transform._deep[4, 4] = (65_535 * 16 * 10**9, 65_535**2 * 16 * 10**9)
    transform._sizes[4, 4] = 10**9
    transform.finish()
    assert transform.to_json()["mean"] == [pytest.approx(255.0)]
    assert transform.to_json()["std"] == [1.0]


def test_where_training_met_no_deep_picture_one_says_itself_how_deep_it_is(tmp_path):
    Image.new("L", (2, 2), 100).save(tmp_path / "a.png")
    transform = fit(path_batch(tmp_path, ["a.png"]))
    assert "white" not in transform.to_json()
    made = transform.apply(deep_batch(tmp_path, b=[[0, 257], [2570, 65_535]], c=[[0, 1], [100, 255]]))["photo"][..., 0].tolist()
    assert made == [[[0, 1], [10, 255]], [[0, 1], [100, 255]]]


def test_a_picture_of_floats_that_are_no_numbers_is_a_bad_one(tmp_path):
    Image.fromarray(np.array([[np.nan, 3.0]], np.float32)).save(tmp_path / "a.tiff")
    Image.new("L", (2, 1), 100).save(tmp_path / "b.png")
    batch = path_batch(tmp_path, ["a.tiff", "b.png"])
    transform = fit(batch, missing="fail")
    assert transform.bad(batch).tolist() == [True, False]
    with pytest.raises(DataError, match="no finite numbers"):
        transform.apply(batch)
