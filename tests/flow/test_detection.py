"""Objects in pictures, from files on disk to boxes in a table."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageColor, ImageDraw

import deepseek
from deepseek.cli import main

CLASSES = {"disc": "red", "square": "blue"}


def draw_picture(random, size=(64, 64), most=3):
    """Return a grey picture with coloured shapes, and their boxes."""
    picture = Image.new("RGB", size, (90, 90, 90))
    pen, boxes = ImageDraw.Draw(picture), []
    for _ in range(random.integers(0, most + 1)):
        label, side = random.choice(list(CLASSES)), int(random.integers(10, 22))
        left, top = (int(random.integers(0, length - side)) for length in size)
        box = (left, top, left + side, top + side)
        if any(left < other[2] and other[0] < box[2] and top < other[3] and other[1] < box[3] for *other, _ in boxes):
            continue
        (pen.ellipse if label == "disc" else pen.rectangle)((left, top, left + side - 1, top + side - 1), fill=CLASSES[label])
        boxes.append((*box, label))
    return picture, boxes


def write_pictures(folder, splits, seed=0):
    random = np.random.default_rng(seed)
    for split, count in splits.items():
        (folder / split).mkdir(parents=True)
        for number in range(count):
            picture, boxes = draw_picture(random)
            picture.save(folder / split / f"{number:03}.png")
            lines = [" ".join(map(str, box)) for box in boxes]
            (folder / split / f"{number:03}.txt").write_text("\n".join(lines))


RECIPE = """
name: shapes
seed: 1
data:
  source: {type: box_files, path: shapes, form: pixels}
  target: boxes
  transforms: {image: {type: image, size: 64, fit: letterbox}}
model: {type: detector, width: 0.25, depth: 0.5}
train: {epochs: 25, batch_size: 8, learning_rate: 0.004, precision: fp32, channels_last: off}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_pictures(folder / "shapes", {"train": 160, "validation": 24, "test": 40})
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder, deepseek.run(folder / "recipe.yaml", out=folder / "runs")


def test_a_recipe_learns_to_find_objects(trained):
    _, run = trained
    assert run.metrics["test"]["map50"] > 0.8
    assert set(run.metrics["test"]) == {"loss", "map50", "map", "map_50", "map_75", "box_recall"}


def test_the_command_line_writes_boxes_in_pixels_of_the_original_picture(trained, tmp_path):
    _, run = trained
    picture, boxes = draw_picture(np.random.default_rng(5))
    assert boxes
    picture.resize((256, 256), Image.Resampling.NEAREST).crop((0, 0, 256, 320)).save(tmp_path / "large.png")
    main(["predict", str(run.run), str(tmp_path / "large.png"), "-o", str(tmp_path / "answers.parquet")])
    (row,) = pq.read_table(tmp_path / "answers.parquet").to_pylist()
    assert row["file"].endswith("large.png")
    for *edges, label in boxes:
        near = [
            one
            for one in row["prediction"]
            if one["label"] == label and abs(one["left"] - 4 * edges[0]) < 16 and abs(one["top"] - 4 * edges[1]) < 16
        ]
        assert near  # the surest first
        assert abs(near[0]["right"] - 4 * edges[2]) < 16
    main(["predict", str(run.run), str(tmp_path / "large.png"), "-o", str(tmp_path / "answers.csv")])
    assert json.loads((tmp_path / "answers.csv").read_text().splitlines()[1].split(",", 1)[1].strip('"').replace('""', '"'))


@pytest.fixture(scope="module")
def exported(trained):
    _, run = trained
    return {form: deepseek.export(run.run, to=form) for form in ("onnx", "openvino")}


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_what_is_exported_finds_the_same_objects(trained, exported, form):
    folder, run = trained
    parity = exported[form]["parity"]
    assert max(parity["largest"].values()) < 1e-4
    assert parity["flipped"] == 0
    pictures = str(folder / "shapes" / "test")
    wanted, found = (deepseek.load(bundle).predict(pictures)["prediction"].to_pylist() for bundle in (run.run, exported[form]["bundle"]))
    assert sum(map(len, wanted)) > 20
    for one, other in zip(wanted, found, strict=True):
        assert [box["label"] for box in one] == [box["label"] for box in other]
        assert np.allclose([box["left"] for box in one], [box["left"] for box in other], atol=0.01)


def test_an_exported_detector_answers_without_torch(trained, exported):
    folder, _ = trained
    pictures = str(folder / "shapes" / "test")
    program = "import sys; sys.modules['torch'] = None; import deepseek; print(deepseek.load(sys.argv[1]).predict(sys.argv[2]).num_rows)"
    command = [sys.executable, "-c", program, exported["onnx"]["bundle"], pictures]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["40"]
    tiled = [*command]
    tiled[2] = program.replace("predict(sys.argv[2])", "predict(sys.argv[2], tiles=32)")
    done = subprocess.run(tiled, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_measured_again_the_bundle_is_as_good_as_the_run_says(trained, exported):
    folder, run = trained
    rows = {"type": "box_files", "path": str(folder / "shapes" / "test"), "form": "pixels"}
    for bundle in (run.run, exported["onnx"]["bundle"]):
        again = deepseek.load(bundle).evaluate(rows)
        assert again["metrics"]["map50"] == pytest.approx(run.metrics["test"]["map50"], abs=1e-6)
        assert again["rows"] == 40
        assert again["warnings"] == []


def test_boxes_that_are_left_out_when_measuring_are_told_of(trained, tmp_path):
    _, run = trained
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("10 10 20 20 disc\n30 30 30 40 disc\n")
    told = deepseek.load(run).evaluate({"type": "box_files", "path": str(tmp_path), "form": "pixels"})["warnings"]
    assert told == ["1 boxes were left out: without height or width; the first is 'disc' at [30.0, 30.0, 30.0, 40.0]"]


def test_a_report_shows_boxes_over_pictures(trained, tmp_path):
    folder, run = trained
    page = deepseek.report(run, tmp_path / "report.html")
    told = page.facts.pictures
    assert dict(told.colours).keys() == CLASSES.keys()
    assert page.output.read_text().count("answer of row") == len(told.shown) == 8
    best, colours = told.shown[-1], dict(told.colours)
    found, there = (int(part) for part in best.measure.split(" found")[0].split(" of "))
    assert (found, best.measure.endswith("0 wrong")) == (there, True)
    pictures = sorted((folder / "shapes").rglob("*.png"))
    boxes = [line.split() for line in pictures[best.row].with_suffix(".txt").read_text().splitlines()]
    assert len(boxes) == there
    drawn = np.asarray(Image.open(io.BytesIO(best.truth)).convert("RGB")).astype(int)
    for left, top, *_, label in boxes:
        x, y = (int(float(edge) * drawn.shape[0] / 64) for edge in (left, top))
        assert np.abs(drawn[y + 1, x + 8] - np.array(ImageColor.getrgb(colours[label]))).max() < 90
