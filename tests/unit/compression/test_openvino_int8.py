import numpy as np
import pytest

from deepseek.compression.calibration import Calibration
from deepseek.compression.openvino_int8 import OpenVinoQuantizer, node_counts, weight_bytes
from deepseek.compression.settings import Int8Settings
from deepseek.errors import ExportError
from deepseek.exporters.contract import original_in
from deepseek.exporters.openvino import OpenVinoExporter


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openvino")
    original = original_in(folder)
    OpenVinoExporter().write(original.graph, folder)
    return folder / "model.xml", Calibration.of(original.training(), original.predictor.arrays, most=24)


def test_layers_are_in_int8_but_those_that_stay(made, tmp_path, capsys):
    path, calibration = made
    quantizer = OpenVinoQuantizer(path, calibration, settings=Int8Settings())
    assert any("text" in layer for layer in quantizer.layers)
    assert any(layer.startswith("head") for layer in quantizer.layers), quantizer.layers
    sizes = {}
    for name, floats in (("all", frozenset()), ("tables", frozenset(quantizer.layers[:1])), ("none", frozenset(quantizer.layers))):
        (tmp_path / name).mkdir()
        quantizer.write(tmp_path / name, floats=floats)
        sizes[name] = weight_bytes(tmp_path / name / "model.xml")
    assert sizes["all"] < sizes["tables"] < sizes["none"] == weight_bytes(path)
    assert capsys.readouterr().out == ""  # the standard output is for results
    assert sum(node_counts(tmp_path / "all" / "model.xml").values()) > 0


@pytest.mark.parametrize("calibration", ["minmax", "entropy", "percentile"])
def test_answers_in_int8_are_near(made, calibration):
    path, rows = made
    quantizer = OpenVinoQuantizer(path, rows, settings=Int8Settings(calibration=calibration))
    whole = quantizer.answers(rows, floats=frozenset(quantizer.layers))
    for before, after in zip(whole, quantizer.answers(rows, floats=frozenset()), strict=True):
        assert 0 < np.abs(before - after).max() < 0.1


def test_a_graph_without_layers_is_refused(tmp_path):
    import openvino
    from openvino import opset13

    given = opset13.parameter([-1, 3], np.float32, name="x")
    openvino.save_model(openvino.Model([opset13.relu(given)], [given], "graph"), str(tmp_path / "model.xml"))
    with pytest.raises(ExportError, match="no layer whose weights could be in INT8"):
        OpenVinoQuantizer(tmp_path / "model.xml", Calibration(()), settings=Int8Settings())
