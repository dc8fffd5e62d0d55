"""A pre-trained encoder's whole road: from a checkpoint to a bundle that needs it no more."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from tests.tiny_checkpoint import write_checkpoint

import deepseek
from deepseek.artifacts import read_json
from deepseek.errors import RecipeError

pytest.importorskip("transformers")
GOOD, BAD = ("lovely", "great", "fine"), ("awful", "dull", "poor")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    draw, lines = np.random.default_rng(0), ["review,mood"]
    for row in range(160):
        words = [*draw.choice(["the", "film", "a", "story", "and", "day"], 4), draw.choice(GOOD if row % 2 else BAD)]
        lines.append(f"{' '.join(draw.permutation(words))},{'happy' if row % 2 else 'sad'}")
    (tmp_path / "reviews.csv").write_text("\n".join(lines) + "\n")
    write_checkpoint(tmp_path / "checkpoint")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return tmp_path


def recipe(folder, **sections):
    value = {
        "name": "mood",
        "data": {"source": "reviews.csv", "target": "mood", "fields": {"review": "text"}},
        "model": {"type": "text_pretrained", "pretrained": "checkpoint"},
        "train": {"epochs": 6, "batch_size": 16, "learning_rate": 0.01, "precision": "fp32"},
        **sections,
    }
    file = folder / "recipe.json"
    file.write_text(json.dumps(value))
    file = file.rename(folder / "recipe.yaml")  # JSON is YAML
    return deepseek.run(file, out=folder / "runs")


ROWS = {"review": ["the lovely film", "a dull story", None, ""]}


def test_a_bundle_needs_neither_checkpoint_nor_hub(folder):
    result = recipe(folder)
    assert result.metrics["test"]["accuracy"] > 0.9
    first = deepseek.load(result.run).predict(ROWS)
    shutil.rmtree(folder / "checkpoint")
    bundle = result.run / "bundle"
    assert json.loads((bundle / "model.json").read_text())["pretrained"] is None
    assert {path.suffix for path in bundle.iterdir()} == {".json", ".safetensors"}
    again = deepseek.load(bundle)
    assert again.predict(ROWS) == first
    resolved = (result.run / "resolved.yaml").read_text()
    assert "text_pretrained" in resolved.split("transforms:")[1].split("augment")[0]


def test_exports_answer_as_the_fine_tuned_network(folder):
    result = recipe(folder, fine_tune={"adapters": "lora"})
    plain = deepseek.load(result.run).predict_proba(ROWS)
    for form, backend in (("onnx", "onnxruntime"), ("openvino", "openvino")):
        deepseek.export(result.run, to=form)
        np.testing.assert_allclose(deepseek.load(result.run, backend=backend).predict_proba(ROWS), plain, atol=1e-5)


def test_adapters_are_merged_and_kept_and_the_run_says_what_trained(folder):
    result = recipe(folder, fine_tune={"adapters": {"method": "dora", "rank": 4, "layers": ["query", "value"], "keep": True}})
    assert (result.run / "adapters.safetensors").is_file()
    groups = read_json(result.run / "decisions.json")["measured"]["fine_tune"]
    assert [group["name"].rpartition(": ")[2] for group in groups] == ["head", "encoder.layer.1", "encoder.layer.0", "embeddings"]
    assert [group["trained"] > 0 for group in groups] == [True, True, True, False]
    deepseek.report(result.run)
    assert "encoder.layer.1" in (result.run / "report.html").read_text()
    from safetensors import safe_open

    with safe_open(result.run / "bundle" / "weights.safetensors", "pt") as file:
        assert not any("lora" in name for name in file.keys())  # noqa: SIM118 - no mapping


def test_frozen_and_unfrozen_step_by_step(folder):
    result = recipe(folder, fine_tune={"freeze": "all", "unfreeze_every": 2, "layer_decay": 0.8, "head_rate": 2})
    groups = read_json(result.run / "decisions.json")["measured"]["fine_tune"]
    assert [group["since"] for group in groups] == ["the first epoch", "epoch 3", "epoch 5", "epoch 7"]


def test_another_tokenizer_under_the_same_name_is_prepared_anew(folder):
    first = recipe(folder)
    path = folder / "checkpoint" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 4}))
    second = recipe(folder)
    lengths = [json.loads((one.run / "bundle" / "data.json").read_text()) for one in (first, second)]
    assert lengths[0] != lengths[1]


def test_what_goes_together_is_checked_before_anything_starts(folder):
    for fine_tune, words in (
        ({"unfreeze_every": 1}, "nothing to unfreeze"),
        ({"freeze": "all", "adapters": "lora"}, "cannot be given together with 'adapters'"),
        ({"freez": "all"}, "did you mean"),
    ):
        with pytest.raises(RecipeError, match=words):
            recipe(folder, fine_tune=fine_tune)
    with pytest.raises(RecipeError, match="needs a model that begins with pre-trained weights"):
        recipe(folder, fine_tune={}, model="text_cnn")


def test_what_is_not_said_is_chosen_for_fine_tuning(folder):
    result = recipe(folder, train={"epochs": 1})
    chosen = read_json(result.run / "decisions.json")["chosen"]
    assert chosen["train.learning_rate"]["value"] == 5e-5
    assert "pre-trained" in chosen["train.learning_rate"]["reason"]
