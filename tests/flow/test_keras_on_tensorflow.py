"""Keras models that Keras trains on TensorFlow: the same numbers go on here, measured, saved and exported."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deepseek
from deepseek.errors import InputError, TrainingError
from deepseek.pipeline import keras_training

pytest.importorskip("keras")
there = pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
BUILDER = '''
from keras import layers
import keras

def build(shape, *, width=16):
    """Return a perceptron with what differs most between backends: batch statistics and dropout."""
    return keras.Sequential([
        layers.Input(shape), layers.Dense(width, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.1),
        layers.Dense(2, activation="softmax"),
    ])

def recurrent(shape):
    return keras.Sequential([layers.Input(shape), layers.Reshape((3, 1)), layers.LSTM(8, return_sequences=True)])
'''
QUICK = {"epochs": 12, "batch_size": 32, "precision": "fp32", "learning_rate": 0.02, "monitor": "log_loss"}
PROGRAM = """
import json, sys
import keras, numpy as np, deepseek
from keras import layers
x = np.random.default_rng(0).normal(size=(300, 3))
rows = {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": np.where(x[:, 0] > x[:, 1], "yes", "no")}
model = keras.Sequential([layers.Input((3,)), layers.Dense(8, activation="relu"), layers.Dense(2, activation="softmax")])
run = deepseek.train(rows, target="y", model=model, out=sys.argv[1], name="points", progress=False,
    overrides=["train.epochs=12", "train.batch_size=32", "train.learning_rate=0.02", "export=[onnx]"])
answers = deepseek.load(run.run / "export" / "onnx").predict_proba({"a": [1.0, -1.0], "b": [-1.0, 1.0], "c": [0.0, 0.0]})
print(json.dumps([keras.backend.backend(), run.metrics["test"]["auc"], answers.argmax(axis=1).tolist()]))
"""


@pytest.fixture
def points(tmp_path):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 3))
    rows = "\n".join(f"{a:.4f},{b:.4f},{c:.4f},{'yes' if a > b else 'no'},{2 * a - b:.4f}" for a, b, c in x)
    (tmp_path / "points.csv").write_text(f"a,b,c,y,z\n{rows}\n", encoding="utf-8")
    (tmp_path / "my_models.py").write_text(BUILDER, encoding="utf-8")
    return tmp_path


def trained(folder, *, function="build", target="y", **more):
    drop = "z" if target == "y" else "y"
    recipe = {
        "name": "points",
        "plugins": [str(folder / "my_models.py")],
        "data": {"source": str(folder / "points.csv"), "target": target, "drop": [drop]},
        "model": {"type": "keras", "builder": f"my_models.py:{function}", "backend": "tensorflow"},
        "train": QUICK if target == "y" else {key: value for key, value in QUICK.items() if key != "monitor"},
        "export": ["onnx"],
    }
    return deepseek.run({**recipe, **more}, out=folder / "runs")


@there
@pytest.mark.parametrize("function", ["build", "recurrent"])
def test_tensorflow_trains_what_pytorch_goes_on_with(points, function):
    run = trained(points, function=function)
    assert run.metrics["test"]["auc"] > 0.9
    plugin = [str(points / "my_models.py")]
    rows = {name: np.linspace(-1, 1, 9) * sign for name, sign in (("a", 1), ("b", -1), ("c", 1))}
    answers = deepseek.load(run.run, plugins=plugin).predict_proba(rows)
    exported = deepseek.load(Path(run.run) / "export" / "onnx").predict_proba(rows)
    np.testing.assert_allclose(exported, answers, atol=1e-4)
    assert (answers.argmax(axis=1)[[0, -1]] == [0, 1]).all()


@there
def test_numbers_are_predicted_too(points):
    # Keras' running statistics keep 0.99 of the old at each step: they lag for hundreds of them, which patience would take for the end
    longer = {**QUICK, "epochs": 60, "monitor": "rmse", "early_stopping": False}
    assert trained(points, target="z", train=longer).metrics["test"]["r2"] > 0.8


@there
def test_a_model_from_a_process_of_tensorflow_is_trained_there(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "runs")], capture_output=True, text=True, check=True, env=environment
    )
    backend, auc, answers = json.loads(done.stdout.strip().splitlines()[-1])
    assert (backend, answers) == ("tensorflow", [1, 0])
    assert auc > 0.9


@there
def test_other_numbers_than_tensorflows_fail_the_run(points, monkeypatch):
    monkeypatch.setattr(keras_training, "_take_up", lambda *_: None)
    with pytest.raises(TrainingError, match="answers otherwise on PyTorch than on TensorFlow"):
        trained(points)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed")
def test_without_tensorflow_the_error_says_so(points):
    with pytest.raises(InputError, match="TensorFlow, which is not installed"):
        trained(points)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"task": {"type": "binary", "loss": "focal"}}, r"task\.loss"),
        ({"task": {"type": "binary", "class_weights": "balanced"}}, "class_weights"),
        ({"train": {**QUICK, "l1": 0.1}}, "l1"),
        ({"train": {**QUICK, "clip": ["agc"]}}, r"train\.clip"),
        ({"train": {**QUICK, "layer_rates": "gradient_variance"}}, r"train\.layer_rates"),
        ({"train": {**QUICK, "activation_checkpointing": 1}}, "activation_checkpointing: 1"),
        ({"train": {**QUICK, "compile": "step", "cuda_graphs": True}}, r"compile: step; train\.cuda_graphs"),
        ({"train": {**QUICK, "accumulate": 2, "on_nonfinite": "skip"}}, r"accumulate: 2; train\.on_nonfinite: skip"),
        ({"train": {**QUICK, "strategy": "ddp"}}, "strategy"),
        ({"train": {**QUICK, "monitor": "accuracy"}}, r"train\.monitor: accuracy"),
        ({"train": {**QUICK, "validate_every_steps": 3}}, r"train\.validate_every_steps: 3"),
        ({"train": {**QUICK, "validate_every_epochs": 2}}, r"train\.validate_every_epochs: 2"),
        ({"train": {**QUICK, "early_stopping": {"patience": 3, "min_delta": 0.1}}}, "min_delta: 0.1"),
        ({"train": {**QUICK, "optimizer": "radam"}}, "the optimizer is radam"),
        (
            {"model": {"type": "keras", "builder": "my_models.py:build", "backend": "tensorflow", "trunk": "mlp"}},
            "a trunk stands behind it",
        ),
    ],
)
def test_what_its_loop_does_not_do_is_refused_by_name(points, more, message):
    with pytest.raises(InputError, match=message):
        trained(points, **more)
