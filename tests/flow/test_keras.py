"""A Keras model from a recipe to a bundle and its exports: the same answers everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import deepseek
from deepseek.errors import InputError, PluginError, RecipeError

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


class TestObjects:
    """A Keras model that is handed in from Python."""

    @staticmethod
    def rows(count=300):
        draw = np.random.default_rng(0)
        x = draw.normal(size=(count, 3))
        return {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": np.where(x[:, 0] > x[:, 1], "yes", "no")}

    @staticmethod
    def model(width=8):
        from deepseek.models.keras.backend import load_keras

        keras = load_keras()
        keras.utils.set_random_seed(0)  # few steps from unlucky weights leave a class out
        layers = keras.layers
        model = keras.Sequential(
            [layers.Input((3,)), layers.Dense(width, activation="relu"), layers.Dropout(0.1), layers.Dense(2, activation="softmax")]
        )
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
        return model

    def test_it_is_trained_measured_saved_and_exported_without_its_code(self, tmp_path):
        options = [f"train.{key}={value}" for key, value in QUICK.items()]
        given = self.model()
        before = [value.copy() for value in given.get_weights()]
        run = deepseek.train(self.rows(), target="y", model=given, out=tmp_path / "runs", overrides=options, name="points")
        assert run.metrics["test"]["auc"] > 0.9
        assert all(np.array_equal(one, two) for one, two in zip(before, given.get_weights(), strict=True)), (
            "the object itself is left alone"
        )
        assert deepseek.evaluate(run.run, self.rows(40))["metrics"]["auc"] > 0.9
        answers = deepseek.load(run.run).predict_proba({"a": [1.0, -1.0], "b": [-1.0, 1.0], "c": [0.0, 0.0]})
        assert (answers.argmax(axis=1) == [1, 0]).all()
        exported = deepseek.export(run.run, to="onnx")
        again = deepseek.load(exported["bundle"]).predict_proba({"a": [1.0, -1.0], "b": [-1.0, 1.0], "c": [0.0, 0.0]})
        np.testing.assert_allclose(again, answers, atol=1e-4)
        spec = json.loads((Path(run.bundle) / "model.json").read_text())
        assert '"begins_with": null' in json.dumps(spec), "a bundle looks for no file of the training machine"
        assert deepseek.run(run.run, out=tmp_path / "again").metrics == run.metrics

    def test_training_begins_with_the_numbers_that_it_has(self, tmp_path):
        quick = [
            "train.epochs=1",
            "train.max_steps=1",
            "train.ema=null",
            "train.optimizer={type: sgd, momentum: 0.0, learning_rate: 1.0e-12}",
        ]
        given = self.model()
        given.set_weights([np.full_like(value, 0.25) for value in given.get_weights()])
        run = deepseek.train(self.rows(), target="y", model=given, out=tmp_path / "runs", overrides=quick)
        weights = deepseek.load(run.run).backend.model.network.encoders["table"].learned
        assert all(abs(float(value.detach().min()) - 0.25) < 1e-6 and abs(float(value.detach().max()) - 0.25) < 1e-6 for value in weights)

    def test_rows_of_another_shape_are_refused(self, tmp_path):
        table = {name: column for name, column in self.rows().items() if name != "c"}
        with pytest.raises(InputError, match=r"takes rows of \(3,\), and those of the data are \(2,\)"):
            deepseek.train(table, target="y", model=self.model(), out=tmp_path / "runs")

    def test_what_needs_code_of_its_own_is_refused(self, tmp_path):
        import keras

        class Own(keras.layers.Layer):
            def call(self, x):
                return x

        layers = keras.layers
        for layer in (Own(), layers.Lambda(lambda x: x), layers.Dense(3, activation=lambda x: x)):
            with pytest.raises(InputError, match="needs code"):
                deepseek.train(self.rows(), target="y", model=keras.Sequential([layers.Input((3,)), layer, layers.Dense(2)]), out=tmp_path)
        with pytest.raises(InputError, match="not built"):
            deepseek.train(self.rows(), target="y", model=keras.Sequential([layers.Dense(2)]), out=tmp_path)
        with pytest.raises(InputError, match="given as list"):
            deepseek.train(self.rows(), target="y", model=[1], out=tmp_path)

    def test_a_written_configuration_is_held_to_the_same(self, tmp_path):
        foreign = {"module": "os", "class_name": "system", "config": {"command": "true"}, "registered_name": None}
        with pytest.raises(InputError, match=r"os\.system"):
            deepseek.train(self.rows(), target="y", model={"type": "keras", "config": foreign}, out=tmp_path / "runs")

    def test_names_and_specs_are_taken_too(self, tmp_path):
        run = deepseek.train(self.rows(), target="y", model={"type": "mlp", "width": 8}, out=tmp_path, overrides=["train.epochs=1"])
        assert json.loads((Path(run.bundle) / "model.json").read_text())["type"] == "mlp"
