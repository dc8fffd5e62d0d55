import json

import onnx
import pytest
from onnx import TensorProto, helper

from deepseek.artifacts import Bundle, sha256_file
from deepseek.errors import BundleError
from deepseek.exporters.contract import original_in
from deepseek.exporters.export import exported
from deepseek.exporters.writing import keep
from deepseek.inference.backends.references import external_files
from deepseek.inference.predictor import Predictor
from deepseek.registry import family

WHERE = ["../../../etc/passwd", "/etc/passwd", "model.onnx.data", "other/weights"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    original = original_in(folder)
    for name in ("onnx", "openvino"):
        with exported(original, family("exporter").build(name), folder) as made:
            keep(made, folder / name)
    return folder


def changed(kept, tmp_path, name, change, *, without=()):
    """Return a copy of a bundle whose graph is another, with hashes that say so: what someone else can hand one."""
    target = tmp_path / name
    target.mkdir()
    for file in (kept / name).iterdir():
        if file.name not in without:
            (target / file.name).write_bytes(file.read_bytes())
    file = target / ("model.onnx" if name == "onnx" else "model.xml")
    file.write_bytes(change(file.read_bytes()))
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["files"] = {known: sha256_file(target / known) for known in manifest["files"] if known not in without}
    (target / "manifest.json").write_text(json.dumps(manifest))
    assert Bundle.open(target)
    return target


def elsewhere(where, place):
    """Return a change of a graph that moves a tensor's numbers to another file."""

    def change(data):
        model = onnx.load_model_from_string(data)
        if place == "initializer":
            tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
        else:
            tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1])
            node = helper.make_node("Constant", [], ["hidden"], value=tensor)
            if place == "subgraph":
                inner = helper.make_graph([node], "inner", [], [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [1])])
                node = helper.make_node("If", ["asked"], ["hidden_too"], then_branch=inner, else_branch=inner)
            elif place == "function":
                model.functions.append(helper.make_function("own", "F", [], ["hidden"], [node], [helper.make_opsetid("", 20)]))
            if place != "function":
                model.graph.node.append(node)
        for found in _tensors(model, tensor.name):
            found.ClearField("raw_data")
            found.data_location = TensorProto.EXTERNAL
            entry = found.external_data.add()
            entry.key, entry.value = "location", where
        return model.SerializeToString()

    return change


def _tensors(model, name):
    yield from (tensor for tensor in model.graph.initializer if tensor.name == name)
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    nodes += [inner for node in model.graph.node for attribute in node.attribute for inner in attribute.g.node]
    yield from (attribute.t for node in nodes for attribute in node.attribute if attribute.t.name == name)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_graph_that_reads_files_outside_the_bundle_is_refused(kept, tmp_path, where, backend):
    target = changed(kept, tmp_path, "onnx", elsewhere(where, "initializer"))
    with pytest.raises(BundleError, match="reads files that are not the bundle's"):
        Predictor.load(target, backend=backend)


@pytest.mark.parametrize("place", ["constant", "subgraph", "function"])
def test_no_tensor_is_overlooked(kept, place):
    data = (kept / "onnx" / "model.onnx").read_bytes()
    assert external_files(data) == []
    assert set(external_files(elsewhere("../secret", place)(data))) == {"../secret"}


@pytest.mark.parametrize("change", [lambda data: data[: len(data) // 2], lambda data: b"\xff" * 64, lambda data: b"\x0b" + data])
def test_what_is_no_graph_is_refused(kept, tmp_path, change):
    with pytest.raises(BundleError, match="is no graph of ONNX"):
        Predictor.load(changed(kept, tmp_path, "onnx", change), backend="onnxruntime")


def test_a_graph_of_openvino_has_its_own_weights_and_no_entities(kept, tmp_path):
    with pytest.raises(BundleError, match=r"has no model\.bin beside it"):
        Predictor.load(changed(kept, tmp_path, "openvino", lambda data: data, without=("model.bin",)))
    (tmp_path / "more").mkdir()
    entity = b'<!DOCTYPE net [<!ENTITY it SYSTEM "file:///etc/passwd">]>'
    with pytest.raises(BundleError, match="declares entities"):
        Predictor.load(changed(kept, tmp_path / "more", "openvino", lambda data: data.replace(b"<net ", entity + b"<net ", 1)))


def test_offsets_beyond_the_weights_are_refused(kept, tmp_path):
    change = lambda data: data.replace(b'offset="0"', b'offset="99999999"')  # noqa: E731
    with pytest.raises(BundleError, match="cannot be run"):
        Predictor.load(changed(kept, tmp_path, "openvino", change))
