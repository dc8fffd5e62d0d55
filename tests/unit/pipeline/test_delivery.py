import pytest

from deepseek.artifacts import RunFolder, export_name
from deepseek.errors import RecipeError
from deepseek.pipeline import delivery
from deepseek.recipe import load_recipe


def recipe(*exports):
    return load_recipe({"data": {"source": "a.csv", "target": "y"}, "export": list(exports)})


@pytest.fixture
def made(monkeypatch, tmp_path):
    """What is exported, in the place of doing it."""
    found = []

    def export(run, *, to, **_):
        assert run == tmp_path
        found.append(to)
        (tmp_path / "export" / export_name(to)).mkdir(parents=True)
        return {"bundle": "there"}

    monkeypatch.setattr(delivery, "export", export)
    return found


def test_forms_of_one_format_stand_side_by_side_and_what_is_there_stays(made, tmp_path):
    given = recipe("openvino", {"type": "openvino", "precision": "bf16"}, {"type": "openvino", "precision": "int8"})
    delivery.deliver(given, RunFolder(tmp_path))
    assert [to if isinstance(to, str) else to["precision"] for to in made] == ["fp32", "bf16", "int8"]
    delivery.deliver(given, RunFolder(tmp_path))
    assert len(made) == 3


def test_two_exports_for_one_place_are_refused():
    with pytest.raises(RecipeError, match="two of them would stand in export/onnx"):
        recipe("onnx", {"type": "onnx", "opset": 18})
    with pytest.raises(RecipeError, match="two of them would stand in export/openvino-bf16"):
        recipe(*[{"type": "openvino", "precision": "bf16"}] * 2)
