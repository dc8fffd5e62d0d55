"""Masks as targets: read, checked, coded, and brought to the network's size as their pictures are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from deepseek.data.augment import build_augmentations
from deepseek.data.augment.base import Draw
from deepseek.data.loader import Loader
from deepseek.data.materialize import prepare
from deepseek.data.preparation import Preparation
from deepseek.data.sources import open_source
from deepseek.data.targets import build_target
from deepseek.data.targets.mask import IGNORED
from deepseek.errors import DataError, InputError
from deepseek.fields import Field, Kind, Schema, infer_schema, target_kind

torch = pytest.importorskip("torch")
SCHEMA = Schema((Field("image", Kind.IMAGE), Field("mask", Kind.MASK)), ("mask",))


def pictures(folder, count=6, size=(12, 18)):
    """Pictures whose brightness says their class: where the mask is 0, 100 or 200 so is the picture."""
    rng = np.random.default_rng(1)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number in range(count):
        mask = rng.choice([0, 100, 200], size=(size[0] // 3, size[1] // 3)).repeat(3, 0).repeat(3, 1).astype(np.uint8)
        Image.fromarray(mask).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return open_source(folder)


def prepared(source, folder, **transform):
    given = {"image": {"type": "image", **transform}} if transform else None
    batches = list(source.read())
    preparation = Preparation(SCHEMA, target="mask", transforms=given).fit(lambda: iter(batches))
    rows = sum(batch.num_rows for batch in batches)
    return preparation, *prepare(preparation, iter(batches), folder, rows=rows, training=True)


def test_a_folder_of_pictures_with_masks_says_what_is_to_be_predicted(tmp_path):
    table = pa.Table.from_batches(pictures(tmp_path).read())
    schema, reasons = infer_schema(table, ["mask"])
    assert (schema["image"].kind, schema["mask"].kind) == (Kind.IMAGE, Kind.MASK)
    assert target_kind(table["mask"], schema["mask"])[0] == "mask"
    assert "a class for each place" in reasons["mask"]


def test_numbers_of_masks_become_codes_and_stay_in_place(tmp_path):
    preparation, dataset, aside = prepared(pictures(tmp_path), tmp_path / "rows")
    assert (preparation.target.spec.classes, preparation.target.spec.shape, aside) == (("0", "100", "200"), (12, 18), {})
    assert preparation.target.spec.counts == (6, 6, 6)
    batch = dataset.take([3, 0])
    assert batch.targets["target"].dtype == torch.uint8
    assert torch.equal(batch.targets["target"] * 100, batch.inputs["image"][..., 0])


@pytest.mark.parametrize("transform", [{"size": (24, 36)}, {"size": (4, 6)}, {"size": (8, 20), "fit": "pad"}])
def test_a_mask_comes_to_the_networks_size_as_its_picture_does(tmp_path, transform):
    _, dataset, _ = prepared(pictures(tmp_path), tmp_path / "rows", **transform)
    batch = dataset.take(range(6))
    target, image = batch.targets["target"], batch.inputs["image"][..., 0]
    assert target.shape == image.shape
    known = target != IGNORED
    assert known.all() == ("fit" not in transform)
    agree = ((target.int() * 100 - image.int()).abs() < 60)[known].float().mean()
    assert agree > (0.99 if "fit" in transform else 0.75)  # resizing blurs the edges of pictures; a mask elsewhere agrees in a third


@pytest.mark.parametrize(
    "specs",
    [
        [{"type": "flip", "probability": 0.5}],
        [{"type": "shift", "pixels": 3}],
        [{"type": "rotate90"}],
        [{"type": "patch", "size": [6, 9]}],
        [{"type": "flip", "probability": 1.0}, {"type": "patch", "size": [5, 7]}],
    ],
)
def test_augmentations_keep_picture_and_mask_together(tmp_path, specs):
    preparation, dataset, _ = prepared(pictures(tmp_path), tmp_path / "rows")
    (read,) = Loader(dataset, batch_size=6, seed=1).batches(0)

    def together(inputs):
        batch = read
        for part in build_augmentations(specs, inputs):
            batch = part.apply(batch, Draw(torch.Generator().manual_seed(4), 0, 6))
        image, mask = batch.inputs["image"][..., 0], batch.targets["target"]
        known = mask != IGNORED
        return batch.inputs["image"], image.shape == mask.shape and torch.equal(mask[known] * 100, image[known])

    image, agree = together(preparation.placed)
    assert image.shape != read.inputs["image"].shape or not torch.equal(image, read.inputs["image"])
    assert agree
    assert not together(preparation.inputs)[1], "without the mask among what moves they must fall apart"


def test_what_moves_in_from_outside_of_the_picture_is_of_no_class(tmp_path):
    preparation, dataset, _ = prepared(pictures(tmp_path), tmp_path / "rows")
    (read,) = Loader(dataset, batch_size=6, seed=1).batches(0)
    bright = {**read.inputs, "image": torch.full_like(read.inputs["image"], 255)}
    read.inputs = bright
    for spec in ({"type": "shift", "pixels": 4}, {"type": "rotate", "degrees": 40.0}):
        (part,) = build_augmentations([spec], preparation.placed)
        batch = part.apply(read, Draw(torch.Generator().manual_seed(4), 0, 6))
        outside = batch.inputs["image"][..., 0] == 0
        assert outside.any()
        assert (batch.targets["target"][outside] == IGNORED).all(), "0 would be a class"
        assert (batch.targets["target"] != IGNORED).any()


def test_mixing_pictures_with_masks_is_refused(tmp_path):
    from deepseek.pipeline.fitting import known_of

    preparation, dataset, _ = prepared(pictures(tmp_path), tmp_path / "rows")
    for name in ("cutmix", "mixup"):
        with pytest.raises(InputError, match="mask"):
            build_augmentations([name], preparation.placed, known_of(preparation, dataset))


def target(folder, masks, **settings):
    made = build_target({"type": "mask", **settings}, [Field("mask", Kind.MASK)])
    made.observe(pa.record_batch({"mask": masks}))
    made.finish()
    return made


def test_a_palette_gives_its_numbers_and_colours_are_refused(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), mode="P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "palette.png")
    image.convert("RGB").save(tmp_path / "colours.png")
    for mode in ("RGB", "RGBA"):
        Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8)).convert(mode).save(tmp_path / "grey.png")
        assert target(tmp_path, [str(tmp_path / "grey.png")]).spec.classes == ("0", "1", "2")
    assert target(tmp_path, [str(tmp_path / "palette.png")]).spec.classes == ("0", "1", "2")
    with pytest.raises(DataError, match=r"no training row has a readable mask in 'mask'; the first: .*colours.png is in colours"):
        target(tmp_path, [str(tmp_path / "colours.png")])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 3, 3), np.uint8), "all places of all training masks are 0"),
        (np.arange(400).reshape(1, 20, 20), "400 different numbers"),
    ],
)
def test_what_is_no_mask_is_said(tmp_path, values, message):
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    with pytest.raises(DataError, match=message):
        target(tmp_path, column)


def test_places_that_are_not_known_have_a_code_of_their_own(tmp_path):
    source = pictures(tmp_path)
    batches = list(source.read())
    preparation = Preparation(SCHEMA, target={"type": "mask", "ignore": 200}).fit(lambda: iter(batches))
    again = Preparation.from_json(preparation.to_json())
    for one in (preparation, again):
        assert one.target.spec.classes == ("0", "100")
        codes = one.target.apply(batches[0])["target"]
        assert set(np.unique(codes)) == {0, 1, IGNORED}


def test_broken_masks_and_masks_of_another_size_are_set_aside(tmp_path):
    source = pictures(tmp_path)
    (tmp_path / "masks" / "1.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "masks" / "4.png")
    preparation, dataset, aside = prepared(source, tmp_path / "rows")
    assert aside == {"target cannot be read": 2}
    assert list(dataset.source_rows) == [0, 2, 3, 5]
    with pytest.raises(DataError, match="of 5×5 places and its picture of 12×18"):
        preparation.target.apply(next(iter(source.read())).slice(4))


def test_a_class_that_training_did_not_know_is_unseen(tmp_path):
    source = pictures(tmp_path)
    preparation, _, _ = prepared(source, tmp_path / "rows")
    Image.fromarray(np.full((12, 18), 7, np.uint8)).save(tmp_path / "masks" / "2.png")
    batch = next(iter(source.read()))
    assert np.flatnonzero(preparation.target.unseen(batch)).tolist() == [2]
    with pytest.raises(DataError, match="the mask holds 7"):
        preparation.target.apply(batch)


def test_masks_need_one_picture():
    schema = Schema((Field("x", Kind.NUMBER), Field("mask", Kind.MASK)), ("mask",))
    masks = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(8, dtype=np.uint8).reshape(2, 2, 2))
    batch = pa.record_batch({"x": [1.0, 2.0], "mask": masks})
    with pytest.raises(InputError, match="masks belong to one picture, and 0 of the inputs"):
        Preparation(schema, target="mask").fit(lambda: iter([batch]))


def scans(folder, spacing, mask_affine):
    """A volume whose bright half says where its mask is, with voxels of some distance, and the mask with a matrix of its own."""
    nibabel = pytest.importorskip("nibabel")
    values = np.zeros((8, 4, 4), dtype=np.uint8)  # width, height, depth, as NIfTI has them
    values[5:] = 200
    values[0] = 100
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.diag([*spacing[::-1], 1.0])), folder / "scan.nii.gz")
    nibabel.save(nibabel.Nifti1Image(values, mask_affine), folder / "mask.nii.gz")
    return pa.record_batch({"image": [str(folder / "scan.nii.gz")], "mask": [str(folder / "mask.nii.gz")]})


@pytest.mark.parametrize("sides", [(3.0, 1.0, 1.0), (1.0, 1.0, 1.0)], ids=["as its volume", "not said"])
def test_a_mask_is_resampled_as_its_volume_is_whatever_its_own_file_says(tmp_path, sides):
    batch = scans(tmp_path, (1.0, 1.0, 3.0), np.diag([*sides, 1.0]))
    schema = Schema((Field("image", Kind.VOLUME), Field("mask", Kind.MASK)), ("mask",))
    transform = {"image": {"type": "volume", "spacing": [1.0, 1.0, 1.0], "normalize": "none", "clip": None}}
    preparation = Preparation(schema, target="mask", transforms=transform).fit(lambda: iter([batch]))
    image, codes = preparation.apply(batch)["image"][0, ..., 0], preparation.target.apply(batch)["target"][0]
    assert image.shape == codes.shape == (4, 4, 24)
    assert np.array_equal(codes == 2, image > 100), "a mask of its own spacing would lie elsewhere"


def test_a_mask_that_lies_otherwise_in_the_body_is_told_of(tmp_path):
    batch = scans(tmp_path, (1.0, 1.0, 1.0), np.diag([-1.0, 1.0, 1.0, 1.0]))
    schema = Schema((Field("image", Kind.VOLUME), Field("mask", Kind.MASK)), ("mask",))
    preparation = Preparation(schema, target="mask").fit(lambda: iter([batch]))
    preparation.target.apply(batch)
    (told,) = preparation.target.take_left_out()
    assert "1 masks say that they lie otherwise" in told
    assert "mask.nii.gz" in told
    assert preparation.target.take_left_out() == []
    preparation.target.apply(scans(tmp_path, (1.0, 1.0, 1.0), np.diag([1.0, 1.0, 1.0, 1.0])))
    assert preparation.target.take_left_out() == []


def test_a_volume_with_numbers_that_are_none_is_set_aside(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    batch = scans(tmp_path, (1.0, 1.0, 1.0), np.eye(4))
    values = np.zeros((8, 4, 4), dtype=np.float32)
    values[3, 2, 1] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "broken.nii.gz")
    both = pa.record_batch({"image": [batch["image"][0].as_py(), str(tmp_path / "broken.nii.gz")], "mask": [batch["mask"][0].as_py()] * 2})
    schema = Schema((Field("image", Kind.VOLUME), Field("mask", Kind.MASK)), ("mask",))
    preparation = Preparation(schema, target="mask").fit(lambda: iter([both]))
    _, aside = prepare(preparation, iter([both]), tmp_path / "rows", rows=2, training=True)
    assert aside == {"image cannot be read": 1}
    with pytest.raises(DataError, match=r"broken\.nii\.gz holds numbers that are none"):
        preparation.apply(both)


def test_images_that_padding_cuts_are_counted(tmp_path):
    preparation, _, _ = prepared(pictures(tmp_path), tmp_path / "rows", size=(12, 10), fit="pad")
    assert any("6 of 6 training images of 'image' are larger than 12×10 pixels" in one for one in preparation.warnings)


def test_slices_of_one_patient_stay_on_one_side_of_a_split(tmp_path):
    pictures(tmp_path, count=4)
    for folder in ("images", "masks"):
        for number in range(4):
            (tmp_path / folder / f"{number}.png").rename(tmp_path / folder / f"p{number // 2}_{number}.png")
    source = open_source({"type": "masks", "path": str(tmp_path), "group": "(p[0-9])_"})
    assert pa.Table.from_batches(source.read())["group"].to_pylist() == ["p0", "p0", "p1", "p1"]
