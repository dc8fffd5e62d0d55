import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from deepseek.compression.calibration import Calibration
from deepseek.compression.onnx_graph import node_counts, weight_bytes
from deepseek.compression.onnx_int8 import OnnxQuantizer
from deepseek.compression.onnx_storage import storable, store
from deepseek.compression.settings import Int8Settings

MEMBERS, WIDTH = 16, 128


def ensemble(path, **changed):
    """Write a graph of factors for each member around a shared product, and a head for each, as TabM has them."""
    draw = np.random.default_rng(0)
    fixed = {
        "before": draw.choice([-1.0, 1.0], (MEMBERS, 1, WIDTH)) + draw.normal(0, 0.1, (MEMBERS, 1, WIDTH)),
        "shared": draw.normal(0, 0.1, (WIDTH, WIDTH)),
        "after": draw.normal(1, 0.3, (MEMBERS, 1, WIDTH)),
        "heads": draw.normal(0, 0.1, (MEMBERS, WIDTH, 1)),
        "shift": draw.normal(size=(MEMBERS, 1, WIDTH)),
        **changed,
    }
    nodes = [
        helper.make_node("Mul", ["x", "before"], ["a"], "factors"),
        helper.make_node("MatMul", ["a", "shared"], ["b"], "product"),
        helper.make_node("Mul", ["b", "after"], ["c"], "more factors"),
        helper.make_node("Add", ["c", "shift"], ["d"], "sum"),
        helper.make_node("MatMul", ["d", "heads"], ["y"], "heads"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "rows", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [MEMBERS, "rows", 1])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in fixed.items()],
    )
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString())
    return path


@pytest.fixture
def path(tmp_path):
    return ensemble(tmp_path / "model.onnx")


def rows():
    draw = np.random.default_rng(1)
    return Calibration(tuple({"x": draw.normal(size=(1, 8, WIDTH)).astype(np.float32)} for _ in range(4)))


def test_what_takes_weights_may_have_them_in_eight_bits(path):
    assert storable(onnx.load(path), but=["product"]) == {
        "before": "factors",
        "after": "more factors",
        "shift": "sum",
        "heads": "heads",
    }


@pytest.mark.parametrize(
    "values",
    [
        np.concatenate([np.full((MEMBERS, 1, WIDTH - 1), 1e-3), np.full((MEMBERS, 1, 1), 1e3)], axis=2),
        np.full((MEMBERS, 1, WIDTH), np.inf),
        np.tile(np.geomspace(1, 100, WIDTH), (MEMBERS, 1)).reshape(MEMBERS, 1, WIDTH),
        np.ones((1, 1, WIDTH)),
    ],
    ids=["uneven", "infinite", "scales", "small"],
)
def test_what_eight_bits_would_spoil_or_not_shrink_stays(tmp_path, values):
    assert "before" not in storable(onnx.load(ensemble(tmp_path / "model.onnx", before=values)))


def test_tensors_that_two_nodes_take_stay(tmp_path):
    model = onnx.load(ensemble(tmp_path / "model.onnx"))
    model.graph.node[2].input[1] = "before"
    assert "before" not in storable(model)


def test_slices_of_zeros_stay_zeros(tmp_path):
    before = np.random.default_rng(0).normal(size=(MEMBERS, 1, WIDTH))
    before[3] = 0
    model = onnx.load(ensemble(tmp_path / "model.onnx", before=before))
    store(model, ["before"])
    small, scale = (numpy_helper.to_array(one) for one in model.graph.initializer if one.name.startswith("before_stored"))
    assert small.dtype == np.int8
    assert (small[3] == 0).all()
    np.testing.assert_allclose(small * scale, before, atol=np.abs(before).max() / 127)


@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_files_shrink_to_a_quarter_and_answers_stay_near(path, tmp_path, method):
    quantizer = OnnxQuantizer(path, rows(), settings=Int8Settings(method=method))
    assert quantizer.layers == ("factors", "product", "more factors", "sum", "heads")
    sizes = {}
    for name, floats in (("all", frozenset()), ("computing alone", frozenset({"factors", "more factors", "sum", "heads"}))):
        (tmp_path / name).mkdir()
        quantizer.write(tmp_path / name, floats=floats)
        sizes[name] = weight_bytes(tmp_path / name / "model.onnx")
    assert sizes["all"] < 0.27 * weight_bytes(path)
    assert sizes["computing alone"] > 0.45 * weight_bytes(path)
    wanted, got = (quantizer.answers(rows(), floats=floats)[0] for floats in (frozenset(quantizer.layers), frozenset()))
    assert 0 < np.abs(got - wanted).max() < 0.05 * np.abs(wanted).max()


def test_runtimes_make_them_floats_when_they_load_the_graph(path, tmp_path):
    model = onnx.load(path)
    store(model, storable(model))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert node_counts(tmp_path / "loaded.onnx") == {"Mul": 2, "MatMul": 2, "Add": 1}


def test_the_form_for_tensorrt_has_none(path):
    assert OnnxQuantizer(path, rows(), settings=Int8Settings(method="static"), form="tensorrt").layers == ("product",)
