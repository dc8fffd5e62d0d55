"""Volumes that are larger than the network's size: measured whole, as they are answered."""

from __future__ import annotations

import numpy as np
import pytest

import deepseek
from deepseek.data.volumes import read_volume, write_volume

pytest.importorskip("nibabel")


def write(folder, count, size=(6, 14, 8)):
    """Volumes with an object at their border, which what is left about the centre does not show."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        mask = np.zeros(size, np.uint8)
        mask[:, 5:9, 2:6] = 1
        mask[:, :2] = 1
        write_volume(folder / "images" / f"{number:02d}.nii.gz", (mask * 5 + rng.normal(0, 1, size)).astype(np.float32))
        write_volume(folder / "masks" / f"{number:02d}.nii.gz", mask)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    recipe = {
        "name": "scans",
        "data": {
            "source": str(write(folder / "scans", 6)),
            "test": str(write(folder / "test", 3)),
            "target": "mask",
            "transforms": {"image": {"type": "volume", "size": 8}},
            "split": {"train": 4, "validation": 2, "test": 0},
        },
        "model": {"type": "unet3d", "width": 4, "depth": 1},
        "train": {"epochs": 2, "batch_size": 2, "learning_rate": 0.01, "precision": "fp32", "channels_last": False},
        "seed": 1,
    }
    return folder, deepseek.run(recipe, out=folder / "runs")


def dice(answers, masks):
    both, total = (
        [one(a, m) for a, m in zip(answers, masks, strict=True)] for one in (lambda a, m: (a & m).sum(), lambda a, m: a.sum() + m.sum())
    )
    return float(np.mean(2 * np.array(both) / np.array(total)))


def test_the_metrics_are_those_of_the_answers(run):
    folder, made = run
    assert any("test rows: 3 of 3 pictures are larger than the network's size" in one for one in made.warnings)
    assert any("validation rows: 2 of 2 pictures" in one for one in made.warnings)
    predictor = deepseek.load(made)
    files = [str(path) for path in sorted((folder / "test" / "images").iterdir())]
    answers = deepseek.masks_in(predictor.predict(files))
    masks = [read_volume(path.replace("images", "masks")).values for path in files]
    assert made.metrics["test"]["dice"] == pytest.approx(dice(answers, masks), abs=1e-6)
    measured = predictor.evaluate(str(folder / "test"))
    assert measured["rows"] == 3
    assert not predictor.backend.model.training, "measuring leaves the network as it was"
    assert measured["metrics"] == pytest.approx(made.metrics["test"], abs=1e-6)


def test_an_exported_graph_is_measured_whole_too(run):
    pytest.importorskip("onnxruntime")
    folder, made = run
    deepseek.export(made, to="onnx")
    measured = deepseek.load(made, backend="onnxruntime").evaluate(str(folder / "test"))
    assert measured["metrics"]["dice"] == pytest.approx(made.metrics["test"]["dice"], abs=1e-3)
