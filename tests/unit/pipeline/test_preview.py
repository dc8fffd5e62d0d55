"""A preview shows what a run will train on: the trainer's own rows, arrays and draws."""

import importlib
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch
from PIL import Image

import deepseek
from deepseek.errors import InputError

RECIPE = {
    "name": "job",
    "data": {
        "source": "table.csv",
        "target": "y",
        "clean": [{"type": "missing", "strategy": "mode", "columns": ["city"]}],
        "transforms": {"number": {"type": "number", "scaling": "standard"}},
    },
    "task": {"type": "binary", "class_weights": "balanced"},
    "model": "mlp",
    "train": {"batch_size": 32, "max_steps": 2, "precision": "fp32", "learning_rate": 0.01},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    table = {
        "age": random.normal(40, 12, 400).round(1),
        "city": pa.array([None if number % 5 == 0 else ("Rome", "Oslo")[number % 3 == 0] for number in range(400)]),
        "note": [f"some words about number {number % 7} again" if number % 2 else f"note {number} of many words" for number in range(400)],
        "y": np.where(random.random(400) < 0.25, "yes", "no"),
    }
    pa.csv.write_csv(pa.table(table), tmp_path / "table.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_rows_are_shown_at_every_stage(folder):
    seen = deepseek.preview(RECIPE, rows=20, out=folder / "runs", output="page.html")
    table = pa.csv.read_csv(folder / "table.csv").to_pylist()
    for row in seen["rows"]:
        given = table[row["row"]]
        assert row["raw"]["age"] == given["age"]
        assert row["cleaned"]["city"] == (given["city"] or "Rome")
        assert row["ready"]["city"] == ("1 = Rome" if row["cleaned"]["city"] == "Rome" else "2 = Oslo")
        assert row["target"] == float(given["y"] == "yes")
        assert row["ready"]["note"]["tokens"][0] == "[ start ]"
        assert "".join(row["ready"]["note"]["tokens"][1:]).split() == given["note"].split()
    assert abs(np.mean([row["ready"]["age"] for row in seen["rows"]])) < 1
    assert any(row["raw"]["city"] is None for row in seen["rows"])
    json.dumps(seen, allow_nan=False)
    page = (folder / "page.html").read_text()
    for words in ("as the network meets it", "parameters by part", "What was chosen", "1 = Rome"):
        assert words in page


def test_sizes_classes_and_parameters_are_those_of_the_run(folder):
    seen = deepseek.preview(RECIPE, out=folder / "runs")
    assert sum(seen["splits"].values()) == 400
    assert seen["batch"]["rows"] == 32
    classes = {item["name"]: item for item in seen["target"]["classes"]}
    assert sum(item["rows"] for item in classes.values()) == seen["splits"]["train"]
    assert classes["no"]["weight"] * classes["no"]["rows"] == pytest.approx(classes["yes"]["weight"] * classes["yes"]["rows"])
    run = deepseek.run(RECIPE, out=folder / "runs")
    found = deepseek.load(run.run).backend.model
    assert seen["network"]["parameters"] == sum(parameter.numel() for parameter in found.parameters())
    assert seen["network"]["parameters"] == sum(part["parameters"] for part in seen["network"]["parts"])


def test_the_batch_is_the_one_that_the_run_trains_on_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 255, (80, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", x=images, y=np.arange(80) % 2)
    recipe = {
        "name": "pictures",
        "data": {"source": "images.npz", "target": "y", "augment": ["flip", {"type": "shift", "fraction": 0.2}]},
        "train": {"batch_size": 16, "max_steps": 1, "precision": "fp32"},
    }
    module = importlib.import_module("deepseek.pipeline.preview")
    shown = []
    peek = module.Trainer.peek
    monkeypatch.setattr(module.Trainer, "peek", lambda self, step=0: shown.append(peek(self, step)) or shown[-1])
    deepseek.preview(recipe, out="runs", output="page.html", rows=3)
    trained = []
    make = module.Trainer._make
    monkeypatch.setattr(module.Trainer, "_make", lambda self, batch: trained.append(batch.inputs["x"].clone()) or make(self, batch))
    deepseek.run(recipe, out="runs")
    read, met = shown[0]
    assert torch.equal(met.inputs["x"], trained[0])
    assert not torch.equal(met.inputs["x"], read.inputs["x"])
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png") == 3 * 7


def test_what_becomes_of_mixed_labels_is_shown_beside_their_pictures(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (80, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", x=images, y=np.arange(80) % 4)
    recipe = {"data": {"source": str(tmp_path / "images.npz"), "target": "y", "augment": ["flip", "mixup"]}}
    seen = deepseek.preview(recipe, out=tmp_path / "runs", output=tmp_path / "page.html", rows=8)
    page = (tmp_path / "page.html").read_text()
    assert seen["batch"]["augmented"] == ["flip", "mixup"]
    assert len(re.findall(r"<td>\d+% [0-3], \d+% [0-3]</td>", page)) > 4
    deepseek.preview(recipe, overrides=["data.augment=[flip]"], out=tmp_path / "runs", output=tmp_path / "page.html", rows=8)
    assert "% 1</td>" not in (tmp_path / "page.html").read_text()


def test_an_image_of_a_folder_is_shown(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (12, 12), (20 * number, 0, 9)).save(tmp_path / "photos" / name / f"{number}.png")
    seen = deepseek.preview({"data": {"source": str(tmp_path / "photos"), "target": "label", "augment": []}}, out=tmp_path / "runs", rows=2)
    assert seen["rows"][0]["ready"]["image"]["shape"] == [3, 12, 12]
    assert seen["rows"][0]["raw"]["image"].endswith(".png")


@pytest.mark.parametrize("rows", [0, 51])
def test_rows_have_a_limit(folder, rows):
    with pytest.raises(InputError, match="1 to 50"):
        deepseek.preview(RECIPE, rows=rows)


@pytest.mark.parametrize(
    "train",
    [
        {"communication": {"type": "qsgd", "bits": 4}, "shares": "auto"},
        {"shares": [3, 1]},
        {"strategy": "fsdp"},
    ],
    ids=str,
)
def test_a_recipe_for_several_devices_is_shown_as_for_one(folder, train):
    alone = deepseek.preview(RECIPE, out=folder / "runs")
    shared = deepseek.preview({**RECIPE, "train": {**RECIPE["train"], "devices": 2, **train}}, out=folder / "runs")
    assert shared["rows"] == alone["rows"]
    assert shared["batch"] == alone["batch"]
