"""From a folder of pictures with masks to masks of new pictures: the whole road, for images and volumes."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

import deepseek
from deepseek.artifacts import read_json
from deepseek.cli import main
from deepseek.data.volumes import Volume, read_volume, write_volume
from deepseek.errors import InputError

RECIPE = {"train": {"epochs": 24, "batch_size": 4, "learning_rate": 0.01, "precision": "fp32", "channels_last": False}, "seed": 1}


def balls(size, rng):
    """A mask with a ball of each of two classes, and a picture in which they are brighter."""
    places = np.indices(size)
    mask = np.zeros(size, np.uint8)
    for code in (1, 2):
        centre = [rng.uniform(side * 0.3, side * 0.7) for side in size]
        radius = min(size) * rng.uniform(0.2, 0.3)
        mask[sum((place - at) ** 2 for place, at in zip(places, centre, strict=True)) < radius**2] = code
    return mask, 60.0 * mask + rng.normal(0, 8, size) + 40


def write_images(folder, count=24, size=(24, 30)):
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        mask, picture = balls(size, rng)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"cell{number:02d}.png")
        Image.fromarray(mask * 100).save(folder / "masks" / f"cell{number:02d}.png")
    return folder


def write_volumes(folder, count=24):
    rng = np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        size = tuple(rng.integers(8, 13, 3))
        mask, picture = balls(size, rng)
        like = Volume(picture, (2.0, 1.0, 0.5), np.diag([0.5, 1.0, 2.0, 1.0]))
        write_volume(folder / "imagesTr" / f"scan{number:02d}_0000.nii.gz", picture.astype(np.int16), like=like)
        write_volume(folder / "labelsTr" / f"scan{number:02d}.nii.gz", mask, like=like)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    source = write_images(folder / "cells")
    recipe = {
        "name": "cells",
        "data": {"source": str(source), "target": "mask"},
        "model": {"type": "unet", "width": 8, "depth": 2},
        **RECIPE,
    }
    return source, deepseek.run(recipe, out=folder / "runs")


def test_a_folder_of_images_becomes_masks_of_their_own_size(images, tmp_path, capsys):
    source, run = images
    assert run.metrics["test"]["dice"] > 0.8
    assert {"dice_100", "dice_200", "iou", "pixel_accuracy", "loss"} <= set(run.metrics["test"])
    larger = Image.open(source / "images" / "cell00.png").resize((41, 37))
    larger.save(tmp_path / "larger.png")
    answers = deepseek.load(run).predict([str(source / "images" / "cell00.png"), str(tmp_path / "larger.png")])
    first, second = deepseek.masks_in(answers)
    assert (first.shape, second.shape, first.dtype) == ((24, 30), (37, 41), np.uint8)
    truth = np.asarray(Image.open(source / "masks" / "cell00.png"))
    assert (first == truth).mean() > 0.9
    shrunk = np.asarray(Image.fromarray(second).resize((30, 24), Image.Resampling.NEAREST))
    assert (shrunk == truth).mean() > 0.85
    assert main(["predict", str(run.run), str(source / "images"), "--output", str(tmp_path / "found"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 24
    assert np.array_equal(np.asarray(Image.open(tmp_path / "found" / "cell00.png")), first)
    with pytest.raises(InputError, match="holds something"):
        deepseek.predict(run, source / "images", tmp_path / "found")
    assert deepseek.predict(run, source / "images", tmp_path / "found.parquet")["rows"] == 24
    assert np.array_equal(deepseek.masks_in(pa.parquet.read_table(tmp_path / "found.parquet"))[0], first)
    with pytest.raises(InputError, match="as CSV"):
        deepseek.predict(run, source / "images", tmp_path / "found.csv")


def test_measuring_the_bundle_says_what_the_run_said(images):
    source, run = images
    measured = deepseek.load(run).evaluate(str(source))
    assert measured["rows"] == 24
    assert measured["metrics"]["dice"] > 0.8


def test_reports_and_comparisons_say_what_they_leave_out(images):
    _, run = images
    page = deepseek.report(run)
    assert any("no single answer (mask)" in line for line in page.facts.missing)
    assert read_json(run.bundle / "reference.json")["metrics"] == {}


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_a_report_shows_masks_over_pictures(images, tmp_path):
    source, run = images
    page = deepseek.report(run, tmp_path / "report.html")
    told = page.facts.pictures
    assert (told.split, [name for name, _ in told.colours]) == ("test", ["100", "200"])
    assert len({colour for _, colour in told.colours}) == 2
    html = page.output.read_text()
    assert html.count("truth of row") == html.count("answer of row") == len(told.shown) > 2
    one = told.shown[0]
    plain = np.asarray(Image.open(source / "images" / f"cell{one.row:02d}.png").resize(decoded(one.truth).shape[1::-1], 0)).astype(int)
    mask = np.asarray(Image.open(source / "masks" / f"cell{one.row:02d}.png").resize(decoded(one.truth).shape[1::-1], 0))
    tinted = np.abs(decoded(one.truth) - plain[..., None]).max(axis=-1) > 25
    assert (tinted == (mask > 0)).mean() > 0.95
    assert deepseek.report(run, tmp_path / "bare.html", examples=False).facts.pictures is None


def test_the_same_recipe_gives_the_same_weights(images, tmp_path):
    _, run = images
    again = deepseek.run(run.run, out=tmp_path / "runs")
    assert (again.bundle / "weights.safetensors").read_bytes() == (run.bundle / "weights.safetensors").read_bytes()


def test_an_exported_graph_says_the_same(images, tmp_path):
    pytest.importorskip("onnxruntime")
    _, run = images
    deepseek.export(run, to="onnx")
    answers = deepseek.load(run, backend="onnxruntime").predict(str(images[0] / "images"))
    wanted = deepseek.load(run, backend="torch").predict(str(images[0] / "images"))
    assert np.mean([(one == two).mean() for one, two in zip(deepseek.masks_in(answers), deepseek.masks_in(wanted), strict=True)]) > 0.999


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    pytest.importorskip("nibabel")
    folder = tmp_path_factory.mktemp("volumes")
    source = write_volumes(folder / "scans")
    recipe = {
        "name": "scans",
        "data": {
            "source": str(source),
            "target": "mask",
            "transforms": {"image": {"type": "volume", "size": 12}},
            "augment": [{"type": "flip"}, {"type": "patch", "size": [10, 10, 10]}],
        },
        "model": {"type": "unet3d", "width": 8, "depth": 2, "attention_gates": True},
        **RECIPE,
    }
    return source, deepseek.run(recipe, out=folder / "runs")


def test_a_folder_of_volumes_becomes_masks_of_their_own_size(volumes, tmp_path):
    source, run = volumes
    assert run.metrics["test"]["dice"] > 0.6
    deepseek.predict(run, source / "imagesTr", tmp_path / "found")
    for number in (0, 7):
        found = read_volume(tmp_path / "found" / f"scan{number:02d}_0000.nii.gz")
        truth = read_volume(source / "labelsTr" / f"scan{number:02d}.nii.gz")
        assert found.values.shape == truth.values.shape
        np.testing.assert_array_equal(found.affine, truth.affine)
        assert (found.values == truth.values).mean() > 0.85


def test_a_volume_larger_than_the_networks_size_is_answered_whole(volumes, tmp_path):
    source, run = volumes
    small = read_volume(source / "imagesTr" / "scan03_0000.nii.gz")
    large = np.pad(small.values, [(9, 3), (0, 12), (5, 5)], constant_values=int(np.median(small.values)))
    write_volume(tmp_path / "large.nii.gz", large, like=small)
    (found,) = deepseek.masks_in(deepseek.load(run).predict(str(tmp_path / "large.nii.gz")))
    assert found.shape == large.shape
    assert (found > 0).any()


def test_a_volumes_graph_is_exported(volumes):
    pytest.importorskip("onnxruntime")
    _, run = volumes
    made = deepseek.export(run, to="onnx")
    assert made


def test_a_stratified_split_of_masks_is_refused(tmp_path):
    source = write_images(tmp_path / "cells", count=6)
    recipe = {"name": "cells", "data": {"source": str(source), "target": "mask", "split": {"stratify": True}}, **RECIPE}
    with pytest.raises(InputError, match="no class that parts could have alike"):
        deepseek.run(recipe, out=tmp_path / "runs")


def test_a_network_that_returns_no_map_is_refused(tmp_path):
    source = write_images(tmp_path / "cells")
    recipe = {"name": "cells", "data": {"source": str(source), "target": "mask"}, "model": {"type": "cnn"}, **RECIPE}
    with pytest.raises(InputError, match="takes a vector for each place"):
        deepseek.run(recipe, out=tmp_path / "runs")


def test_a_report_shows_the_slice_of_a_volume_with_most_in_it(volumes, tmp_path):
    _, run = volumes
    told = deepseek.report(run, tmp_path / "report.html").facts.pictures
    assert all("Dice" in one.measure for one in told.shown)
    assert (np.abs(np.diff(decoded(told.shown[-1].truth), axis=-1)) > 25).any(), "a grey slice has colours where something is"
