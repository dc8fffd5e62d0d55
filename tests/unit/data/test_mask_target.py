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
        return batch.inputs["image"], batch.inputs["image"][..., 0].shape == batch.targets["target"].shape and torch.equal(
            batch.targets["target"] * 100, batch.inputs["image"][..., 0]
        )

    image, agree = together(preparation.placed)
    assert image.shape != read.inputs["image"].shape or not torch.equal(image, read.inputs["image"])
    assert agree
    assert not together(preparation.inputs)[1], "without the mask among what moves they must fall apart"


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
    assert target(tmp_path, [str(tmp_path / "palette.png")]).spec.classes == ("0", "1", "2")
    with pytest.raises(DataError, match="no training row has a readable mask"):
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
