"""Texts and pictures that a table names, from files to answers."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import deepseek
from deepseek.artifacts import sha256_file
from deepseek.data.batch import in_pieces
from deepseek.data.padding import in_array_pieces
from deepseek.errors import BundleError, InputError
from deepseek.models.encoders.text_bag import TextBagEncoder

GOOD, BAD = ["lovely", "great", "fine", "splendid"], ["awful", "dull", "poor", "boring"]
FILLER = ["the", "film", "with", "a", "story", "and", "some", "people", "who", "go", "to", "a", "place", "then", "come", "back"]
QUICK = ["train.epochs=4", "train.batch_size=32"]


def reviews(rows, seed=0):
    draw = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(rows):
        good = bool(draw.integers(2))
        length = int(min(draw.lognormal(2.0, 0.8), 80)) + 4
        words = [str(word) for word in draw.choice(FILLER, length)]
        for place in draw.integers(0, length, 3):
            words[place] = str(draw.choice(GOOD if good else BAD))
        texts.append(" ".join(words))
        labels.append("good" if good else "bad")
    return texts, labels


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    texts, labels = reviews(400)
    texts[3] = None
    pa.csv.write_csv(pa.table({"review": texts, "label": labels}), folder / "a.csv")
    return deepseek.train(folder / "a.csv", target="label", out=folder / "runs", overrides=QUICK)


def test_texts_are_learned(run):
    assert run.metrics["test"]["auc"] > 0.9
    chosen = json.loads((Path(run.run) / "decisions.json").read_text())["chosen"]
    assert chosen["data.fields.review"]["value"] == "text"


def test_a_text_alone_is_answered_as_among_others(run):
    predictor = deepseek.load(run.run)
    texts = [*reviews(40, seed=1)[0], None, "", "zzz " * 900, "日本語 👍🏽"]
    together = predictor.predict(pa.table({"review": pa.array(texts, pa.string())}))
    alone = pa.concat_tables([predictor.predict(pa.table({"review": pa.array([text], pa.string())})) for text in texts])
    assert together["prediction"].equals(alone["prediction"])
    for name in ("probability_good", "probability_bad"):
        np.testing.assert_allclose(together[name], alone[name], atol=1e-5)


def test_a_bundle_that_was_made_when_hashes_were_others_is_refused(run, tmp_path, monkeypatch):
    bundle = tmp_path / "old"
    shutil.copytree(run.bundle, bundle)
    weights = {name: tensor for name, tensor in load_file(bundle / "weights.safetensors").items() if not name.endswith(".revised")}
    save_file(weights, bundle / "weights.safetensors")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["weights.safetensors"] = sha256_file(bundle / "weights.safetensors")
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"another version made it, in which the same weights answer otherwise.* is revision 2, not 1"):
        deepseek.load(bundle).predict(pa.table({"review": ["lovely"]}))
    monkeypatch.setattr(TextBagEncoder, "revision", 3)
    with pytest.raises(BundleError, match="is revision 3, not 2"):
        deepseek.load(run.run).predict(pa.table({"review": ["lovely"]}))


def test_answers_in_pieces_keep_the_rows_order(run, monkeypatch):
    predictor = deepseek.load(run.run)
    table = pa.table({"review": reviews(60, seed=2)[0]})
    whole = predictor.predict(table)
    monkeypatch.setattr("deepseek.inference.predictor.in_array_pieces", partial(in_array_pieces, most=100))
    pieces = predictor.predict(table)
    np.testing.assert_allclose(whole["probability_good"], pieces["probability_good"], atol=1e-5)
    assert predictor.predict(table.slice(0, 0)).num_rows == 0


def test_what_is_measured_does_not_depend_on_pieces(run, monkeypatch):
    texts, labels = reviews(90, seed=3)
    table = pa.table({"review": texts, "label": labels})
    whole = deepseek.evaluate(run.run, table)["metrics"]
    monkeypatch.setattr("deepseek.data.batch.in_pieces", partial(in_pieces, most=200))
    assert deepseek.evaluate(run.run, table)["metrics"] == pytest.approx(whole, abs=1e-5)


def test_a_folder_of_texts_by_class_is_learned(tmp_path):
    for place, (text, label) in enumerate(zip(*reviews(120), strict=True)):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / label / f"{place}.txt").write_text(text, encoding="utf-8")
    made = deepseek.train(tmp_path / "data", out=tmp_path / "runs", overrides=["train.epochs=1"])
    specs = json.loads((Path(made.run) / "bundle" / "data.json").read_text())["transforms"]
    assert [part["spec"]["type"] for part in specs] == ["text"]


def test_a_step_compiled_for_one_shape_is_refused_before_training(tmp_path):
    texts, labels = reviews(60)
    table = pa.table({"review": texts, "label": labels})
    with pytest.raises(InputError, match="compile: step needs batches of one shape"):
        deepseek.train(table, target="label", out=tmp_path, overrides=["train.compile=step", "train.epochs=1"])


def test_pictures_that_a_table_names_lie_beside_it(tmp_path, monkeypatch):
    (tmp_path / "data" / "pictures").mkdir(parents=True)
    draw = np.random.default_rng(0)
    rows = []
    for place in range(60):
        bright = place % 2
        pixels = (draw.integers(0, 60, (8, 8, 3)) + 150 * bright).astype(np.uint8)
        if place != 5:
            Image.fromarray(pixels).save(tmp_path / "data" / "pictures" / f"{place}.png")
        rows.append((f"pictures/{place}.png", "yes" if bright else "no"))
    names, labels = zip(*rows, strict=True)
    pa.csv.write_csv(pa.table({"picture": names, "bright": labels}), tmp_path / "data" / "a.csv")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    made = deepseek.train("../data/a.csv", target="bright", out=tmp_path / "runs", overrides=["train.epochs=1"])
    assert sum("rows were set aside: picture cannot be read" in text for text in made.warnings) == 1
    measured = deepseek.evaluate(made.run, "../data/a.csv")
    assert (measured["rows"], measured["set_aside"]) == (59, {"input cannot be read": 1})
