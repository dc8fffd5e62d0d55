from __future__ import annotations

from io import BytesIO

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from tests.sounds import wav
from tests.tiny_checkpoint import write_checkpoint

from deepseek.artifacts import Bundle
from deepseek.data.preparation import Preparation
from deepseek.errors import BundleError, ExportError
from deepseek.exporters.contract import ExporterContract, original_in, rows
from deepseek.exporters.export import exported
from deepseek.exporters.original import Original
from deepseek.fields import Field, Kind, Schema
from deepseek.inference import build_model, save_bundle
from deepseek.registry import family

SPECS = {
    "onnx": {"type": "onnx", "opset": 18},
    "onnx int8": {"type": "onnx", "precision": "int8"},
    "openvino": {"type": "openvino"},
    "openvino int8": {"type": "openvino", "precision": "int8"},
    "tensorrt": {"type": "tensorrt"},
    "tensorrt int8": {"type": "tensorrt", "precision": "int8"},
    "torch": {"type": "torch"},
}
TABLE, TEXT, IMAGE, SOUND = ("a size", "kind"), ("text",), ("photo",), ("sound",)
MODELS = {
    "mlp": ({"type": "mlp", "width": 8, "depth": 1}, TABLE),
    "residual": ({"type": "residual", "width": 8}, TABLE),
    "tabm": ({"type": "tabm", "width": 8, "members": 3}, TABLE),
    "cnn": ("cnn", IMAGE),
    "resnet": ("resnet", IMAGE),
    "efficientnet": ({"type": "efficientnet"}, IMAGE),
    "text_bag": ({"type": "text_bag"}, TEXT),
    "text_cnn": ({"type": "text_cnn"}, TEXT),
    "text_rnn": ({"type": "text_rnn"}, TEXT),
    "text_rnn, gru": ({"type": "text_rnn", "cell": "gru"}, TEXT),
    "text_transformer": ({"type": "text_transformer"}, TEXT),
    "text_pretrained": ({"type": "text_pretrained"}, TEXT),
    "image_timm": ({"type": "image_timm", "architecture": "resnet18"}, IMAGE),
    "wide_deep": ({"type": "wide_deep", "crosses": [["a size", "kind"]], "buckets": 64}, TABLE),
    "audio_cnn": ({"type": "audio_cnn"}, SOUND),
    "audio_rnn": ({"type": "audio_rnn", "width": 8, "depth": 2}, SOUND),
    "keras": ({"type": "keras", "builder": "build_deepseek_model", "arguments": {"num_classes": 2}}, IMAGE),
    "network": ({"type": "network", "encoders": {"image": {"type": "cnn", "channels": [4, 8], "blocks": [0, 1]}}}, TABLE + TEXT + IMAGE),
}
REFUSED = {("audio_rnn", "openvino")}
FORECASTING = {"dlinear", "nlinear", "series_rnn", "tft"}
KINDS = {"a size": Kind.NUMBER, "kind": Kind.CATEGORY, "text": Kind.TEXT, "photo": Kind.IMAGE, "sound": Kind.AUDIO, "label": Kind.BINARY}


def test_every_exporter_and_model_is_in_this_suite():
    assert {spec["type"] for spec in SPECS.values()} == set(family("exporter").names())
    vectors = {name for name in family("model").names() if family("model").get(name).features == "vector"}
    assert {name.partition(",")[0] for name in MODELS} == vectors - FORECASTING  # maps, sequences and windows have tests of their own


@pytest.mark.parametrize("case", SPECS)
class TestBuiltinExporters(ExporterContract):
    @pytest.fixture(autouse=True)
    def _spec(self, case):
        self.spec = SPECS[case]

    def build(self):
        return family("exporter").build(self.spec)


def photos(count):
    draw, files = np.random.default_rng(1), []
    for _ in range(count):
        file = BytesIO()
        Image.fromarray(draw.integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(file, "PNG")
        files.append(file.getvalue())
    return pa.array(files)


def sounds(count):
    draw = np.random.default_rng(2)
    return pa.array([wav(draw.uniform(-1, 1, 400 + 40 * number)) for number in range(count)])


@pytest.mark.parametrize("exporter", ["onnx", "openvino", "torch"])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_exports(name, exporter, tmp_path):
    model, columns = MODELS[name]
    batch, transforms = rows(), None
    if name == "text_pretrained":
        model = {**model, "pretrained": str(write_checkpoint(tmp_path / "checkpoint"))}
        transforms = {"text": {"type": "text_pretrained", "pretrained": model["pretrained"]}}
    if name == "image_timm":
        pytest.importorskip("timm")
    if "photo" in columns:
        batch = batch.append_column("photo", photos(batch.num_rows))
    if "sound" in columns:
        batch = batch.append_column("sound", sounds(batch.num_rows))
    fields = tuple(Field(column, KINDS[column]) for column in (*columns, "label"))
    original = original_in(
        tmp_path, model, batch=batch.select([*columns, "label"]), schema=Schema(fields, ("label",)), transforms=transforms
    )
    if (name, exporter) in REFUSED:
        with pytest.raises(ExportError, match="a loop of its own"), exported(original, family("exporter").build(exporter), tmp_path):
            pass
        return
    with exported(original, family("exporter").build(exporter), tmp_path) as made:
        assert made.parity.rows == batch.num_rows
        assert made.parity.flipped == 0
        assert made.parity.difference < 1e-5
        assert "rows alone" in made.parity.cases


def test_openvino_does_not_run_a_loop_that_was_exported_for_another(tmp_path):
    model, columns = MODELS["audio_rnn"]
    batch = rows()
    batch = batch.append_column("sound", sounds(batch.num_rows)).select([*columns, "label"])
    schema = Schema((Field("sound", Kind.AUDIO), Field("label", Kind.BINARY)), ("label",))
    original = original_in(tmp_path, model, batch=batch, schema=schema)
    with exported(original, family("exporter").build("onnx"), tmp_path) as made, pytest.raises(BundleError, match="a loop of its own"):
        family("backend").build("openvino", made.bundle)


ENCODERS = {
    "text_rnn": {"type": "text_rnn", "width": 16, "token_width": 8},
    "text_transformer": {"type": "text_transformer", "width": 16, "heads": 2},
    "text_decoder": {"type": "text_decoder", "width": 16, "heads": 2},
    "transformer_xl": {"type": "transformer_xl", "width": 16, "heads": 2},
    "text_pretrained": {"type": "text_pretrained"},
}


@pytest.mark.parametrize("exporter", ["onnx"])
@pytest.mark.parametrize("name", ENCODERS)
def test_labels_of_words_are_exported(name, exporter, tmp_path):
    words = [["Ada", "lives", "in", "Rome"], ["Rome"], [], None, ["Ada", "Ada", "and", "her", "long", "name"]] * 4
    tags = [None if row is None else ["B-PER" if word == "Ada" else "O" for word in row] for row in words]
    batch = pa.record_batch({"words": pa.array(words, pa.list_(pa.string())), "tags": pa.array(tags, pa.list_(pa.string()))})
    schema = Schema((Field("words", Kind.TAGS), Field("tags", Kind.TAGS)), ("tags",))
    encoder, transforms = ENCODERS[name], None
    if name == "text_pretrained":
        encoder = {**encoder, "pretrained": str(write_checkpoint(tmp_path / "checkpoint"))}
        transforms = {"words": {"type": "words", "pretrained": encoder["pretrained"]}}
    preparation = Preparation(schema, transforms=transforms, target="tags").fit(lambda: iter([batch]))
    spec = family("model").validate({"type": "text_sequence", "encoder": encoder})
    torch.manual_seed(0)
    model, task = build_model(preparation, spec, {"type": "sequence_labelling"}), {"type": "sequence_labelling"}
    save_bundle(tmp_path / "bundle", model, preparation, model=spec, task=task)
    original = Original.of(Bundle.open(tmp_path / "bundle"), lambda: iter([batch]), training=lambda: iter([batch]))
    with exported(original, family("exporter").build(exporter), tmp_path) as made:
        assert made.parity.rows == batch.num_rows
        assert made.parity.flipped == 0
        assert made.parity.difference < 1e-5


@pytest.mark.parametrize("exporter", ["onnx", "openvino", "torch"])
def test_hashes_of_thousands_of_words_are_those_of_training(exporter, tmp_path):
    """OpenVINO reckons whole numbers in float32: the products of ids in the thousands must not need more."""
    words = [f"w{number}" for number in range(6_000)]
    texts = [" ".join(words[start : start + 60]) for start in range(0, 6_000, 60)]
    batch = pa.record_batch({"text": texts, "label": pa.array([number % 2 for number in range(100)], pa.int64())})
    schema = Schema((Field("text", Kind.TEXT), Field("label", Kind.BINARY)), ("label",))
    model = {"type": "text_bag", "ngrams": 3, "pool": "root"}
    original = original_in(tmp_path, model, batch=batch, schema=schema)
    with exported(original, family("exporter").build(exporter), tmp_path) as made:
        assert made.parity.flipped == 0
        assert made.parity.difference < 1e-5
