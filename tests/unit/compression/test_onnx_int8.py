from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.calibrate import MinMaxCalibrater

from deepseek.compression.calibration import Calibration
from deepseek.compression.onnx_graph import between, layers_of, weight_bytes
from deepseek.compression.onnx_int8 import OnnxQuantizer, _Reader
from deepseek.compression.settings import Int8Settings
from deepseek.errors import ExportError, InputError

DRAW = np.random.default_rng(0)


def convolutions(path):
    """Write a graph of convolutions with a way round, and a product at the end."""
    weight = lambda name, shape: numpy_helper.from_array(DRAW.normal(size=shape).astype(np.float32), name)  # noqa: E731
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b", "c"], ["d"], "round"),
        helper.make_node("Add", ["d", "shift"], ["e"], "shift"),
        helper.make_node("Reshape", ["e", "flat"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "bias"], ["y"], "third"),
    ]
    fixed = [
        weight("w1", (4, 3, 3, 3)),
        weight("w2", (4, 4, 3, 3)),
        weight("w3", (4 * 16, 2)),
        weight("bias", (2,)),
        weight("shift", (1, 4, 1, 1)),
        numpy_helper.from_array(np.array([-1, 64]), "flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 2])],
        fixed,
    )
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString())
    return path


@pytest.fixture
def path(tmp_path):
    return convolutions(tmp_path / "model.onnx")


def rows(scale=1.0):
    return Calibration(tuple({"x": scale * DRAW.normal(size=(8, 3, 4, 4)).astype(np.float32)} for _ in range(4)))


FIXED = rows()


def close(quantizer, calibration):
    whole = quantizer.answers(calibration, floats=frozenset(quantizer.layers))[0]
    return float(np.abs(quantizer.answers(calibration, floats=frozenset())[0] - whole).max() / np.abs(whole).max())


@pytest.mark.parametrize("method", ["static", "dynamic"])
@pytest.mark.parametrize("calibration", ["minmax", "entropy", "percentile"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_answers_in_int8_are_near(path, method, calibration, per_channel):
    settings = Int8Settings(method=method, calibration=calibration, per_channel=per_channel)
    quantizer = OnnxQuantizer(path, rows(), settings=settings)
    assert quantizer.layers == ("first", "second", "third")
    assert 0 < close(quantizer, rows()) < 0.2


def test_weights_are_a_quarter_and_layers_that_stay_keep_theirs(path, tmp_path):
    quantizer = OnnxQuantizer(path, rows(), settings=Int8Settings(method="static"))
    sizes = {}
    for name, floats in (("all", frozenset()), ("two", frozenset({"first"})), ("none", frozenset(quantizer.layers))):
        (tmp_path / name).mkdir()
        quantizer.write(tmp_path / name, floats=floats)
        sizes[name] = Counter(
            tensor.data_type for tensor in onnx.load(tmp_path / name / "model.onnx").graph.initializer if len(tensor.dims) > 1
        )
    assert sizes["all"][TensorProto.INT8] == 3
    assert sizes["two"][TensorProto.INT8] == 2
    assert sizes["none"][TensorProto.INT8] == 0
    assert weight_bytes(tmp_path / "all" / "model.onnx") < 0.5 * weight_bytes(path)


def test_scales_come_from_the_calibration_rows(path, tmp_path):
    made = []
    for place, scale in enumerate((1.0, 1.0, 30.0)):
        (tmp_path / str(place)).mkdir()
        batches = Calibration(tuple({"x": scale * batch["x"]} for batch in FIXED.batches))
        OnnxQuantizer(path, batches, settings=Int8Settings(method="static")).write(tmp_path / str(place))
        made.append((tmp_path / str(place) / "model.onnx").read_bytes())
    assert made[0] == made[1] != made[2]


def test_few_rows_are_measured_at_once_and_none_is_left_out(path, monkeypatch):
    given = []

    def looked_at(calibrator, reader):
        batch = reader.get_next()
        given.append(batch["x"])
        collect(calibrator, _Reader([batch]))

    collect = MinMaxCalibrater.collect_data
    monkeypatch.setattr(MinMaxCalibrater, "collect_data", looked_at)
    assert OnnxQuantizer(path, FIXED, settings=Int8Settings()).ranges
    assert max(map(len, given)) <= 4
    np.testing.assert_array_equal(np.concatenate(given), np.concatenate([batch["x"] for batch in FIXED.batches]))


def test_what_lies_between_convolutions_goes_with_them(path):
    model = onnx.load(path)
    every = frozenset(layers_of(model, frozenset({"Conv", "Gemm"})))
    assert between(model, every) == ["round"]  # the sum with a fixed number is none of two images
    assert between(model, every - {"second"}) == []


def test_the_form_for_tensorrt_is_signed_and_symmetric_and_its_biases_are_floats(path, tmp_path):
    for form in ("onnxruntime", "tensorrt"):
        (tmp_path / form).mkdir()
        OnnxQuantizer(path, rows(), settings=Int8Settings(method="static"), form=form).write(tmp_path / form)
    kinds = {
        form: {tensor.data_type for tensor in onnx.load(tmp_path / form / "model.onnx").graph.initializer}
        for form in ("onnxruntime", "tensorrt")
    }
    assert {TensorProto.UINT8, TensorProto.INT32} <= kinds["onnxruntime"]
    assert not {TensorProto.UINT8, TensorProto.INT32} & kinds["tensorrt"]
    zeros = [one for one in onnx.load(tmp_path / "tensorrt" / "model.onnx").graph.initializer if one.name.endswith("_zero_point")]
    assert zeros
    assert not any(numpy_helper.to_array(one).any() for one in zeros)


def test_where_sums_of_products_overflow_weights_take_seven_bits(path, tmp_path, monkeypatch):
    largest = []
    for place, machine in enumerate(("processor avx2", "processor avx2 avx512_vnni")):
        monkeypatch.setattr("deepseek.compression.onnx_int8.machine", lambda machine=machine: machine)
        (tmp_path / str(place)).mkdir()
        OnnxQuantizer(path, rows(), settings=Int8Settings(method="static")).write(tmp_path / str(place))
        weights = [one for one in onnx.load(tmp_path / str(place) / "model.onnx").graph.initializer if one.name.endswith("w1_quantized")]
        largest.append(int(np.abs(numpy_helper.to_array(weights[0]).astype(int)).max()))
    assert largest[0] <= 64 < largest[1]


def test_a_graph_without_layers_is_refused(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], "relu")],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])],
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString())
    with pytest.raises(ExportError, match="no layer whose weights could be in INT8"):
        OnnxQuantizer(path, rows(), settings=Int8Settings())


@pytest.mark.parametrize(
    "given", [{"calibration_rows": 0}, {"max_drop": 1.5}, {"max_drop": -0.1}, {"method": "dynamic", "backend": "openvino"}]
)
def test_settings_out_of_range_are_refused(given):
    with pytest.raises(InputError):
        Int8Settings(**given)
