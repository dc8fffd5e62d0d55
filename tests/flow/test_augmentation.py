from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from safetensors.torch import load_file

import deepseek

FAST = {"epochs": 2, "batch_size": 16, "precision": "fp32", "early_stopping": False}


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    labels = np.arange(150) % 3
    pixels = random.integers(0, 120, (150, 12, 12, 3), dtype=np.uint8)
    pixels[np.arange(150), :, :, labels] += 120
    np.savez(tmp_path / "photos.npz", x=pixels, y=labels)
    return tmp_path / "photos.npz"


def apart(one, other):
    """Return how far the weights of two runs lie apart at most; a convolution's last bit may depend on where its memory lies."""
    first, second = (load_file(run.bundle / "weights.safetensors") for run in (one, other))
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


def trained(source, folder, augment, **more):
    recipe = {"data": {"source": str(source), "target": "y", "augment": augment}, "train": FAST, **more}
    return deepseek.run(recipe, out=folder)


def test_a_recipe_mixes_moves_and_colours_images(photos, tmp_path):
    mixed = [
        "flip",
        {"type": "rotate", "degrees": 20.0},
        "color_jitter",
        {"type": "image_augmenter", "methods": ["mixup", "cutmix"], "alpha": 1.0},
    ]
    first = trained(photos, tmp_path / "runs", mixed)
    assert first.metrics["test"]["accuracy"] > 0.6
    assert apart(first, trained(photos, tmp_path / "runs", mixed)) < 1e-3
    assert apart(first, trained(photos, tmp_path / "runs", mixed[:3])) > 1e-2
    resolved = (first.run / "resolved.yaml").read_text()
    assert "image_augmenter" in resolved


def test_class_weights_and_mixtures_go_together(photos, tmp_path):
    balanced = trained(photos, tmp_path / "runs", ["mixup"], task={"type": "multiclass", "class_weights": {"0": 5.0}})
    assert np.isfinite(balanced.metrics["test"]["loss"])


def test_a_recipe_changes_texts(tmp_path):
    random = np.random.default_rng(0)
    good, bad = ["fine", "good", "great", "superb"], ["poor", "bad", "awful", "dull"]
    rows = []
    for number in range(160):
        words = (good if number % 2 else bad)[random.integers(4)], "film", "story", (good if number % 2 else bad)[random.integers(4)]
        rows.append(f"because the plot is {words[0]} , the {words[1]} feels {words[3]} .")
    pa.csv.write_csv(pa.table({"note": rows, "y": ["yes" if n % 2 else "no" for n in range(160)]}), tmp_path / "notes.csv")
    table = {"good": ["fine", "great"], "bad": ["poor", "awful"]}
    eda = [{"type": "eda", "synonyms": table, "share": 0.3}, {"type": "clause_swap"}]
    more = {"model": {"type": "text_cnn"}}
    first = trained(tmp_path / "notes.csv", tmp_path / "runs", eda, **more)
    assert first.metrics["test"]["auc"] > 0.6
    assert apart(first, trained(tmp_path / "notes.csv", tmp_path / "runs", eda, **more)) < 1e-3
    assert apart(first, trained(tmp_path / "notes.csv", tmp_path / "runs", [], **more)) > 1e-2


def test_a_recipe_with_wrong_methods_is_refused_at_once(photos, tmp_path):
    for augment, words in (
        ([{"type": "image_augmenter", "methods": ["mixup", "flipp"]}], "did you mean 'flip'"),
        ([{"type": "one_of", "methods": ["mixup", "flip"], "probabilities": [0.7, 0.7]}], "come to 1.4"),
        ([{"type": "eda"}], "changes texts"),
        ([{"type": "mixup", "alpha": 0}], "alpha"),
    ):
        with pytest.raises(deepseek.DeepSeekError, match=words):
            trained(photos, tmp_path / "runs", augment)
