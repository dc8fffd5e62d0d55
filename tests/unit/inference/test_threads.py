"""How many threads a backend computes with: what it was told, else what the environment says."""

import pytest

from deepseek.inference.backends.base import told_threads
from deepseek.inference.backends.onnxruntime import _session


class Bundle:
    def __init__(self, path):
        self.path = path

    def file(self, name):
        return self.path / name


@pytest.mark.parametrize(("told", "threads"), [("3", 3), ("0", None), ("", None), ("all", None)])
def test_the_environment_says_how_many(monkeypatch, told, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert told_threads() == threads


def test_onnx_runtime_keeps_to_it(monkeypatch, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "abs", value[:1], value[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), tmp_path / "model.onnx")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert _session(Bundle(tmp_path), None).get_session_options().intra_op_num_threads == 3
    assert _session(Bundle(tmp_path), 2).get_session_options().intra_op_num_threads == 2
