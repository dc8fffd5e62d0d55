"""A Keras model from a recipe to a bundle and its exports: the same answers everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deepseek
from deepseek.errors import PluginError, RecipeError

pytest.importorskip("keras")
BUILDER = '''
import keras
from keras import layers

def build(shape, *, width=16):
    """Return a perceptron that ends as Keras models do, in a softmax."""
    return keras.Sequential([
        layers.Input(shape), layers.Dense(width, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.2),
        layers.Dense(2, activation="softmax"),
    ])
'''
QUICK = {"epochs": 8, "monitor": "log_loss", "batch_size": 32, "precision": "fp32", "learning_rate": 0.01}


@pytest.fixture
def table(tmp_path):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 3))
    rows = "\n".join(f"{a:.4f},{b:.4f},{c:.4f},{'yes' if a > b else 'no'}" for a, b, c in x)
    (tmp_path / "points.csv").write_text(f"a,b,c,y\n{rows}\n", encoding="utf-8")
    (tmp_path / "my_models.py").write_text(BUILDER, encoding="utf-8")
    return tmp_path


def recipe(**more):
    text = {
        "name": "points",
        "plugins": ["my_models.py"],
        "data": {"source": "points.csv", "target": "y"},
        "model": {"type": "keras", "builder": "my_models.py:build", "arguments": {"width": 8}},
        "train": QUICK,
    }
    return {**text, **more}


def written(folder, **more):
    import yaml

    (folder / "points.yaml").write_text(yaml.safe_dump(recipe(**more)), encoding="utf-8")
    return folder / "points.yaml"


def test_a_builder_in_a_plugin_is_trained_bundled_and_exported(table):
    run = deepseek.run(written(table, export=["onnx", "openvino"]), out=table / "runs")
    assert run.metrics["test"]["auc"] > 0.9
    plugin = [str(table / "my_models.py")]
    rows = {name: np.linspace(-1, 1, 9) * sign for name, sign in (("a", 1), ("b", -1), ("c", 1))}
    answers = deepseek.load(run.run, plugins=plugin).predict_proba(rows)
    for to in ("onnx", "openvino"):
        exported = deepseek.load(Path(run.run) / "export" / to, plugins=plugin).predict_proba(rows)
        np.testing.assert_allclose(exported, answers, atol=1e-4)
    files = {path.name for path in (Path(run.run) / "bundle").iterdir()}
    assert not {name for name in files if name.endswith((".py", ".keras", ".h5", ".pkl"))}


def test_a_builder_that_is_no_plugin_is_refused(table):
    with pytest.raises((PluginError, RecipeError), match="no plugin"):
        deepseek.run(written(table, plugins=[], model={"type": "keras", "builder": "os:system"}), out=table / "runs")


def test_the_model_of_the_articles_reads_images(tmp_path):
    draw = np.random.default_rng(0)
    labels = np.arange(160) % 2
    images = draw.integers(0, 60, (160, 9, 8), dtype=np.uint8)
    images[labels == 1, :4] += 150
    images[labels == 0, 4:] += 150
    np.savez(tmp_path / "halves.npz", x=images, y=labels)
    built = {"type": "keras", "builder": "build_deepseek_model", "arguments": {"num_classes": 2}}
    made = {"data": {"source": str(tmp_path / "halves.npz"), "target": "y"}, "model": built, "train": QUICK, "export": ["onnx"]}
    run = deepseek.run(made, out=tmp_path / "runs")
    assert run.metrics["test"]["accuracy"] > 0.9
