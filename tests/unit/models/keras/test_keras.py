"""Keras models: the one that articles call for, and others as encoders of a network."""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import deepseek
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError, MissingExtraError, PluginError
from deepseek.fields import Kind
from deepseek.models.keras import backend
from deepseek.models.keras.making import without_decision
from deepseek.registry import family, load_plugin

keras = pytest.importorskip("keras")
PHOTO = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (1, 8, 9), "float32")}
NUMBERS = {"numbers": InputSpec("numbers", Kind.NUMBER, ("a", "b", "c"), (3,), "float32")}
TABLE = {**NUMBERS, "codes": InputSpec("codes", Kind.CATEGORY, ("d",), (1,), "int32", (5,))}
BUILDERS = """
import keras
from keras import layers

def plain(shape, *, width=4):
    return keras.Sequential([layers.Input(shape), layers.Dense(8, activation="relu"), layers.Dropout(0.5), layers.Dense(width)])

def normalised(shape):
    return keras.Sequential([layers.Input(shape), layers.Dense(8), layers.BatchNormalization(), layers.Dropout(0.3, seed=7)])

def table(shapes):
    inputs = {name: layers.Input(shape, name=name, dtype="int32" if name == "codes" else "float32") for name, shape in shapes.items()}
    codes = layers.Flatten()(layers.Embedding(5, 3)(inputs["codes"]))
    return keras.Model(inputs, layers.Dense(6)(layers.Concatenate()([inputs["numbers"], codes])))

def tokens(shape):
    return keras.Sequential([layers.Input(shape), layers.Reshape((3, 1)), layers.Dense(5)])

def text(shape):
    return "no model"

def fails(shape):
    raise RuntimeError("out of layers")

class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3, activation="softmax")

    def call(self, x):
        return self.dense(x)

def own(shape):
    return Own()

def penalised(shape):
    return keras.Sequential([layers.Input(shape), layers.Dense(8, kernel_regularizer="l2", name="first"), layers.Dense(4)])

def limited(shape):
    return keras.Sequential([layers.Input(shape), layers.Dense(4, kernel_constraint="max_norm", name="first")])

def busy(shape):
    return keras.Sequential([layers.Input(shape), layers.Dense(8, activity_regularizer="l1"), layers.Dense(4)])
"""


@pytest.fixture(autouse=True)
def _builders(tmp_path):
    (tmp_path / "my_models.py").write_text(BUILDERS, encoding="utf-8")
    load_plugin("my_models.py", tmp_path)
    torch.manual_seed(0)


def encoder(function, inputs=NUMBERS, **arguments):
    return family("encoder").build({"type": "keras", "builder": f"my_models.py:{function}", "arguments": arguments or None}, inputs)


class TestArticle:
    @pytest.mark.parametrize(
        ("shape", "classes"), [((8, 8, 1), 2), ((1, 1, 1), 2), ((9, 31, 3), 5), ((100, 7, 4), 3), ((224, 224, 3), 10), ((3, 70, 1), 2)]
    )
    def test_any_size_becomes_probabilities(self, shape, classes):
        model = deepseek.build_deepseek_model(shape, classes)
        assert isinstance(model, keras.Model)
        answers = model.predict(np.random.default_rng(0).random((2, *shape), np.float32), verbose=0)
        assert answers.shape == (2, classes)
        np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)

    def test_its_parts_are_convolutions_a_lstm_and_attention(self):
        kinds = [type(layer).__name__ for layer in deepseek.build_deepseek_model((28, 28, 1), 10).layers]
        assert [kinds.count(kind) for kind in ("Conv2D", "MaxPooling2D", "LSTM", "MultiHeadAttention", "Dense")] == [2, 2, 1, 1, 1]

    def test_keras_itself_trains_it(self):
        draw = np.random.default_rng(0)
        labels = np.arange(96) % 2
        images = draw.random((96, 8, 8, 1), np.float32) * 0.2
        images[labels == 1, :4] += 0.8  # the upper half, so that the order of the rows tells
        images[labels == 0, 4:] += 0.8
        model = deepseek.build_deepseek_model((8, 8, 1), 2)
        model.compile(optimizer=keras.optimizers.Adam(3e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        history = model.fit(images, labels, epochs=4, batch_size=16, verbose=0).history
        assert history["loss"][-1] < history["loss"][0]
        assert (model.predict(images, verbose=0).argmax(axis=1) == labels).mean() > 0.9

    @pytest.mark.parametrize(("shape", "classes"), [((28, 28), 10), ((0, 8, 1), 2), ((8, 8, 1), 1), ((8, 8, 1), 2.5), ((8, None, 1), 2)])
    def test_what_is_no_shape_or_number_of_classes_is_refused(self, shape, classes):
        with pytest.raises(InputError):
            deepseek.build_deepseek_model(shape, classes)


class TestBackend:
    def test_keras_is_imported_with_torch_and_without_tensorflow(self):
        program = (
            "import sys, deepseek; model = deepseek.build_deepseek_model((8, 8, 1), 2); import keras, json;"
            "print(json.dumps([keras.backend.backend(), 'tensorflow' in sys.modules]))"
        )
        environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
        assert json.loads(done.stdout.splitlines()[-1]) == ["torch", False]

    def test_without_keras_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "keras", None)
        with pytest.raises(MissingExtraError, match="keras"):
            backend.load_keras()

    def test_another_backend_is_refused(self, monkeypatch):
        monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
        with pytest.raises(InputError, match="KERAS_BACKEND=torch"):
            encoder("plain")


class TestEncoder:
    def test_an_image_comes_with_its_channels_last(self):
        built = family("encoder").build({"type": "keras", "builder": "build_deepseek_model", "arguments": {"num_classes": 3}}, PHOTO)
        assert built.keras_model.input_shape == (None, 8, 9, 1)
        assert (built.width, built.tokens) == (128, 1)  # the softmax is left off
        image = torch.rand(2, 1, 8, 9)
        direct = built.keras_model(image.movedim(1, -1), training=False)
        torch.testing.assert_close(built.eval()({"photo": image}).tokens.squeeze(1), direct)

    def test_several_inputs_come_by_name(self):
        batch = {"numbers": torch.randn(4, 3), "codes": torch.tensor([[0], [1], [4], [2]], dtype=torch.int32)}
        built = encoder("table", TABLE)
        assert built(batch).tokens.shape == (4, 1, 6)
        assert not torch.equal(built(batch).tokens[1], built({**batch, "codes": batch["codes"] * 0}).tokens[1])

    def test_a_model_of_vectors_gives_tokens(self):
        built = encoder("tokens")
        assert (built.tokens, built.width) == (3, 5)
        assert built({"numbers": torch.randn(2, 3)}).tokens.shape == (2, 3, 5)

    def test_dropout_and_batch_statistics_go_by_train_and_eval(self):
        built, x = encoder("normalised"), {"numbers": torch.randn(64, 3) + 5}
        before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
        assert torch.equal(built.eval()(x).tokens, built(x).tokens)
        assert all(torch.equal(tensor, before[name]) for name, tensor in built.state_dict().items())
        first, second = built.train()(x).tokens, built(x).tokens
        assert (first == 0).float().mean() > 0.1
        assert not torch.equal(first == 0, second == 0)
        changed = {name for name, tensor in built.state_dict().items() if not torch.equal(tensor, before[name])}
        assert len(changed) == 3  # mean and variance of the batches, and the generator's state
        assert all(name.startswith("kept_") for name in changed)

    def test_weights_have_the_same_names_however_many_models_came_before(self):
        first, second, x = encoder("normalised"), encoder("normalised"), {"numbers": torch.randn(4, 3)}
        first.train()(x)
        second.load_state_dict(first.state_dict())
        assert torch.equal(second.eval()(x).tokens, first.eval()(x).tokens)
        assert all("seed_generator" not in name for name in first.state_dict())

    def test_the_seed_says_what_is_drawn_and_pythons_own_generator_is_left_alone(self):
        state = random.getstate()
        drawn = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            drawn.append(encoder("plain").learned[0].detach())
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])
        assert random.getstate() == state

    def test_a_copy_shares_nothing(self):
        first, x = encoder("plain").eval(), {"numbers": torch.randn(4, 3)}
        second, before = copy.deepcopy(first), first(x).tokens
        with torch.no_grad():
            for parameter in second.parameters():
                parameter.add_(1.0)
        assert torch.equal(first(x).tokens, before)
        assert not torch.equal(second(x).tokens, before)

    def test_functional_calls_see_the_weights_that_they_are_given(self):
        built, x = encoder("plain").eval(), {"numbers": torch.randn(4, 3)}
        zeros = {name: torch.zeros_like(parameter) for name, parameter in built.named_parameters()}
        assert not torch.func.functional_call(built, zeros, (x,)).tokens.any()

    @pytest.mark.parametrize(
        ("function", "said"),
        [("penalised", "a penalty of .*first/kernel"), ("limited", "a limit of .*first/kernel"), ("busy", "losses of its own")],
    )
    def test_what_only_keras_training_heeds_is_not_dropped_in_silence(self, function, said):
        built, x = encoder(function), {"numbers": torch.randn(4, 3)}
        assert built.eval()(x).tokens.shape == (4, 1, 4)
        with pytest.raises(InputError, match=said):
            built.train()(x)

    @pytest.mark.parametrize(
        ("function", "message"),
        [("text", "returns str"), ("fails", "out of layers"), ("nobody", "no function"), ("os:system", "no plugin")],
    )
    def test_a_builder_that_is_none_is_refused(self, function, message):
        with pytest.raises(PluginError, match=message):
            encoder(function) if ":" not in function else family("encoder").build({"type": "keras", "builder": function}, NUMBERS)

    def test_texts_are_refused(self):
        text = {"note": InputSpec("note", Kind.TEXT, ("note",), (), "int32", (9,), ragged=True)}
        with pytest.raises(InputError, match="unequal length"):
            encoder("plain", text)


class TestDecision:
    @pytest.mark.parametrize(
        "end",
        [
            lambda layers: [layers.Dense(3, activation="softmax")],
            lambda layers: [layers.Dense(1, activation="sigmoid")],
            lambda layers: [layers.Dense(3), layers.Softmax()],
            lambda layers: [layers.Dense(3), layers.Activation("softmax")],
        ],
    )
    def test_it_is_left_off(self, end):
        layers = keras.layers
        model = keras.Sequential([layers.Input((4,)), layers.Dense(7), *end(layers)])
        assert without_decision(model).output_shape == (None, 7)

    def test_what_is_none_is_kept(self):
        layers = keras.layers
        for model in (keras.Sequential([layers.Input((4,)), layers.Dense(7, activation="relu")]), encoder("own").keras_model):
            assert without_decision(model) is model
