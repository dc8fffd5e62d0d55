import json
import sys
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
import torch
from tests.contract.test_exporters import photos

from deepseek.artifacts import Bundle, sha256_file
from deepseek.compression.settings import Int8Settings
from deepseek.data.padding import mask_name
from deepseek.errors import ExportError, InputError
from deepseek.exporters.contract import original_in, rows
from deepseek.exporters.export import exported
from deepseek.exporters.onnx import OnnxExporter
from deepseek.exporters.tensorrt import TensorRtExporter
from deepseek.exporters.writing import keep
from deepseek.fields import Field, Kind, Schema
from deepseek.inference.predictor import Predictor
from deepseek.registry import family

needs_parser = pytest.mark.skipif(not find_spec("tensorrt_rtx"), reason="TensorRT's parser is not installed: pip install tensorrt-rtx")


def test_other_programs_run_the_program_and_this_one_never_opens_it(tmp_path, monkeypatch):
    original = original_in(tmp_path)
    with exported(original, family("exporter").build("torch"), tmp_path) as made:
        kept = keep(made, tmp_path / "kept")
    arrays = original.predictor.arrays(rows())
    program = torch.export.load(kept.file("model.pt2")).module()
    spec = original.predictor.preparation.inputs
    names = [name for one in spec.values() for name in ((one.name, mask_name(one.name)) if one.ragged else (one.name,))]
    (answers,) = program(*(torch.from_numpy(arrays[name]) for name in names))
    wanted = original.predictor.decoded(rows())
    assert np.allclose(answers.detach().numpy(), next(iter(wanted.values())), atol=1e-5)
    monkeypatch.setattr(torch.export, "load", None)
    manifest = json.loads((kept.path / "manifest.json").read_text())
    (kept.path / "model.pt2").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    manifest["files"]["model.pt2"] = sha256_file(kept.path / "model.pt2")
    (kept.path / "manifest.json").write_text(json.dumps(manifest))
    assert Predictor.load(kept.path).answer(rows()).equals(original.predictor.answer(rows()))
    with pytest.raises(InputError, match="has no such file"):
        Predictor.load(kept.path, backend="onnxruntime")


def pictures(tmp_path):
    batch = rows().append_column("photo", photos(24)).select(["photo", "label"])
    return original_in(
        tmp_path, {"type": "cnn"}, batch=batch, schema=Schema((Field("photo", Kind.IMAGE), Field("label", Kind.BINARY)), ("label",))
    )


@needs_parser
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("make", [original_in, pictures])
def test_tensorrt_reads_what_is_written_and_builds_an_engine(make, precision, tmp_path):
    exporter = TensorRtExporter(precision=precision)
    with exported(make(tmp_path), exporter, tmp_path, int8=Int8Settings(max_drop=1.0)) as made:
        said = made.document["tensorrt"]
        assert said["layers"] > 5
        assert said["engine_bytes"] > 1000
        kinds = [node.op_type for node in onnx.load(made.bundle.file("model.onnx")).graph.node]
        assert ("QuantizeLinear" in kinds) == (precision == "int8")


class OrdinaryForm(TensorRtExporter):
    """TensorRT's exporter with the INT8 form that ONNX Runtime is quickest with."""

    form = "onnxruntime"


@needs_parser
def test_the_ordinary_int8_form_is_not_read(tmp_path):
    settings = Int8Settings(max_drop=1.0)
    with (
        pytest.raises(ExportError, match="TensorRT does not read the graph"),
        exported(original_in(tmp_path), OrdinaryForm(precision="int8"), tmp_path, int8=settings),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@needs_parser
def test_bytes_that_are_not_cast_first_are_not_read(tmp_path):
    OnnxExporter().write(pictures(tmp_path).graph, tmp_path)
    with pytest.raises(ExportError, match="TensorRT does not read the graph"):
        TensorRtExporter().check(tmp_path)


def test_without_the_parser_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with exported(original_in(tmp_path), TensorRtExporter(), tmp_path) as made:
        assert made.document["tensorrt"] is None


def test_an_answer_graph_has_no_normalisation_left_and_the_bundle_is_as_it_was(tmp_path):
    original = pictures(tmp_path)
    weights = sha256_file(Bundle.open(tmp_path / "bundle").file("weights.safetensors"))
    assert original.graph.folded
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in original.graph.model.modules())
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in original.predictor.backend.model.modules())
    assert sha256_file(Bundle.open(tmp_path / "bundle").file("weights.safetensors")) == weights
