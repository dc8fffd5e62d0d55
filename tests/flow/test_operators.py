"""A plugin's operator on the whole road: as an activation, in a trunk, in an encoder of the plugin's own; trained, bundled, exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import deepseek
from deepseek.errors import DeepSeekError, ExportError
from deepseek.models.operators import tensor
from deepseek.registry import family

OPERATOR = (Path(__file__).parents[1] / "unit" / "models" / "operators" / "signed_log.py").read_text()
ENCODER = '''

from deepseek.models.base import Encoded
from deepseek.models.encoders.table import TableEncoder


@family("encoder").register("logged_table")
class LoggedTable(TableEncoder):
    """The table's encoder, of whose vectors the operator makes smaller ones."""

    def forward(self, inputs):
        encoded = super().forward(inputs)
        return Encoded(signed_log(encoded.tokens), encoded.mask)
'''
MODELS = {
    "activation": {"type": "mlp", "width": 8, "depth": 2, "activation": "signed_log"},
    "trunk": {"type": "network", "trunk": {"type": "operators", "operators": ["signed_log"], "then": {"type": "mlp", "width": 8}}},
    "encoder": {"type": "network", "encoders": {"table": {"type": "logged_table"}}, "trunk": {"type": "mlp", "width": 8}},
}


def rows(count=60):
    draw = np.random.default_rng(0)
    size = draw.normal(size=count) * 100
    return pa.table({"size": size, "kind": ["abc"[place % 3] for place in range(count)], "label": ["no", "yes"] * (count // 2)})


def recipe_in(folder, name, model):
    """A recipe, and its plugin under a namespace of its own: PyTorch's operators outlive a test."""
    (folder / "signed.py").write_text(OPERATOR.replace("examples::", f"{name}::") + ENCODER)
    pq.write_table(rows(), folder / "rows.parquet")
    return {
        "plugins": [str(folder / "signed.py")],
        "data": {"source": str(folder / "rows.parquet"), "target": "label"},
        "model": model,
        "train": {"epochs": 1, "precision": "fp32"},
    }


@pytest.mark.parametrize("model", MODELS)
def test_an_operator_is_trained_bundled_and_exported(model, tmp_path, plugins_forgotten):
    recipe, table = recipe_in(tmp_path, f"road_{model}", MODELS[model]), rows()
    run = deepseek.run(recipe, out=tmp_path / "runs")
    answers = deepseek.load(run.run, plugins=recipe["plugins"]).predict_proba(table)
    for form in ("onnx", "openvino"):
        made = deepseek.export(run.run, to=form, plugins=recipe["plugins"])
        exported = deepseek.load(made["bundle"], plugins=recipe["plugins"]).predict_proba(table)
        np.testing.assert_allclose(np.asarray(exported), np.asarray(answers), rtol=1e-4, atol=1e-5)
    for name in ("operator", "encoder"):
        family(name)._added = {}
    with pytest.raises(DeepSeekError, match=r"signed_log|logged_table"):
        deepseek.load(run.run)
    alone = deepseek.load(made["bundle"]).predict_proba(table)  # the graph holds the operator's form: who answers needs no plugin
    np.testing.assert_array_equal(np.asarray(alone), np.asarray(exported))


def test_an_operator_without_a_form_is_not_exported_and_the_error_says_what_to_do(tmp_path, plugins_forgotten, monkeypatch):
    run = deepseek.run(recipe_in(tmp_path, "formless", MODELS["activation"]), out=tmp_path / "runs")
    monkeypatch.delitem(tensor._ONNX, "formless::signed_log")
    with pytest.raises(ExportError, match="signed_log") as caught:
        deepseek.export(run.run, to="onnx")
    assert "onnx=" in caught.value.hint


def test_a_recipe_that_does_not_list_the_plugin_is_refused(tmp_path, plugins_forgotten):
    recipe = recipe_in(tmp_path, "unlisted", MODELS["activation"])
    del recipe["plugins"]
    with pytest.raises(DeepSeekError, match="signed_log"):
        deepseek.run(recipe, out=tmp_path / "runs")
