"""Sounds, and several senses at once, from files to answers: with what is missing, in production and exported."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch
from tests.sounds import wav, write_tones

import deepseek
from deepseek.data.examples import example
from deepseek.serving.rows.reader import RowReader

QUICK = ["train.epochs=4", "train.batch_size=16", "train.early_stopping=false"]
CROSS = {
    "type": "network",
    "encoders": {
        "image": {"type": "cnn", "channels": [8, 16], "blocks": [0, 0], "pooling": "none"},
        "audio": {"type": "audio_cnn", "channels": [8, 16], "blocks": [0, 0], "pool": "none", "halve_time": 1},
        "text": {"type": "text_cnn", "filters": 16, "pool": "none"},
    },
    "fusion": {"type": "cross_attention", "width": 16, "heads": 2},
    "sense_dropout": 0.2,
    "trunk": "identity",
}
SENSES = ["note", "photo", "recording"]


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    write_tones(folder / "tones", rows=120)
    (folder / "tones" / "low" / "broken.wav").write_bytes(wav(np.zeros(500))[:200])
    run = deepseek.train(folder / "tones", target="label", out=folder / "runs", overrides=[*QUICK, "train.epochs=6"])
    return folder, run


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machines")
    file = example("machines", folder, rows=160)
    recipe = {
        "name": "machines",
        "data": {"source": str(file), "target": "state"},
        "model": CROSS,
        "train": {"epochs": 2, "batch_size": 32},
    }
    run = deepseek.run(recipe, out=folder / "runs")
    return file, run


def rows_of(file):
    table = pa.csv.read_csv(file, convert_options=pa.csv.ConvertOptions(strings_can_be_null=True))
    for name in ("photo", "recording"):
        paths = [None if value is None else str(file.parent / value) for value in table[name].to_pylist()]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(paths))
    return table


def test_sounds_are_learned_with_nothing_said_but_the_target(tones):
    _, run = tones
    assert run.metrics["test"]["accuracy"] > 0.9
    chosen = json.loads((Path(run.run) / "decisions.json").read_text())["chosen"]
    assert chosen["model"]["value"]["type"] == "audio_cnn"
    assert chosen["data.augment"]["value"][0]["type"] == "spec_augment"


def test_a_sound_that_cannot_be_read_is_set_aside_with_its_reason(tones):
    _, run = tones
    data = json.loads((Path(run.run) / "data.json").read_text())
    assert "audio cannot be read" in json.dumps(data)
    assert sum(part["rows"] for part in data["rows"].values() if "rows" in part) == 120


def test_sound_files_are_answered_as_they_are(tones):
    folder, run = tones
    answers = deepseek.load(run.run).predict(str(folder / "tones" / "high"))
    assert answers["file"][0].as_py().endswith(".wav")
    assert np.mean(np.array(answers["prediction"].to_pylist()) == "high") > 0.9


def test_a_sound_alone_is_answered_as_among_longer_ones(tones):
    _, run = tones
    predictor = deepseek.load(run.run)
    draw = np.random.default_rng(1)
    calls = [wav(0.3 * np.sin(np.arange(length) * draw.uniform(0.2, 1.8))) for length in (400, 3000, 90, 2000, 1, 25_000)]
    together = predictor.predict_proba(pa.table({"audio": calls}))
    alone = np.concatenate([predictor.predict_proba(pa.table({"audio": [one]})) for one in calls])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_exported_sound_models_answer_the_same(tones):
    _, run = tones
    deepseek.export(run.run)
    calls = pa.table({"audio": [wav(0.3 * np.sin(np.arange(length) * 0.4)) for length in (1, 80, 81, 3000)]})
    own, other = deepseek.load(run.run), deepseek.load(run.run, backend="onnxruntime")
    np.testing.assert_allclose(own.predict_proba(calls), other.predict_proba(calls), atol=1e-4)


def test_requests_bring_sounds_in_base64(tones):
    _, run = tones
    reader = RowReader(deepseek.load(run.run).preparation)
    good = base64.b64encode(wav(np.zeros(100))).decode()
    rows = reader.read_json(json.dumps([{"audio": good}, {"audio": base64.b64encode(b"noise").decode()}, {"audio": None}]).encode())
    assert rows.batch.num_rows == 1
    assert sorted(rows.bad) == [1, 2]
    assert "a sound file, in base64" in json.dumps(rows.bad[1])
    assert reader.read_form({"audio": wav(np.zeros(100))}).batch.num_rows == 1


def test_senses_that_are_missing_are_no_hindrance(machines):
    file, run = machines
    predictor = deepseek.load(run.run)
    table = rows_of(file).slice(0, 6)
    whole = predictor.predict_proba(table)
    assert np.isfinite(whole).all()
    for name in SENSES:
        nulls = pa.nulls(6, pa.string())
        without = predictor.predict_proba(table.set_column(table.schema.get_field_index(name), name, nulls))
        assert np.isfinite(without).all()
        had = [row for row, value in enumerate(table[name].to_pylist()) if value is not None]
        assert np.abs(without[had] - whole[had]).max() > 1e-4, "what is there has a say"
    nothing = table
    for name in SENSES:
        nothing = nothing.set_column(nothing.schema.get_field_index(name), name, pa.nulls(6, pa.string()))
    assert np.isfinite(predictor.predict_proba(nothing)).all()


def test_the_tokens_of_what_is_missing_are_under_the_mask(machines):
    file, run = machines
    predictor = deepseek.load(run.run)
    table = rows_of(file).slice(0, 40)
    network = predictor.backend.model.network
    arrays = predictor.arrays(table.select(list(predictor.columns)).combine_chunks().to_batches()[0])
    encoded = network.encoded({name: torch.from_numpy(array) for name, array in arrays.items()})
    for key, name in network.senses.items():
        if name in SENSES:
            there = encoded[key].mask.any(dim=1).tolist()
            assert there == [value is not None for value in table[name].to_pylist()]


def test_requests_and_exports_bear_missing_senses(machines):
    file, run = machines
    deepseek.export(run.run)
    own, other = deepseek.load(run.run), deepseek.load(run.run, backend="onnxruntime")
    table = rows_of(file).slice(0, 30)
    np.testing.assert_allclose(own.predict_proba(table), other.predict_proba(table), atol=1e-4)
    reader = RowReader(own.preparation)
    row = {"note": None, "photo": None, "recording": None, "maker": "Abel", "hours": 10, "heat": None}
    rows = reader.read_json(json.dumps(row).encode())
    assert not rows.bad
    assert own.answer(rows.batch).num_rows == 1


def test_attention_between_senses_is_that_of_the_network(machines, tmp_path):
    file, run = machines
    seen = deepseek.attention(run.run, rows_of(file), rows=5, output=tmp_path / "attention.html")
    assert set(seen["senses"]) == {"note", "photo", "recording", "table"}
    assert len(seen["rows"]) == 5
    table = rows_of(file).slice(0, 5).to_pylist()
    for row, values in zip(seen["rows"], table, strict=True):
        weights = np.array(row["weights"])
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
        senses = [token["sense"] for token in row["tokens"]]
        same = np.array([[one == other for other in senses] for one in senses])
        assert not weights[:, :-1][same].any(), "a sense does not look at itself"
        assert {name for name in SENSES if values[name] is not None} | {"table"} == set(senses)
        for line, name in zip(row["between"], seen["senses"], strict=True):
            assert (line is None) == (name not in senses)
            assert line is None or sum(line) == pytest.approx(1, abs=1e-5)
    assert "between senses" in (tmp_path / "attention.html").read_text()


def test_the_report_shows_where_senses_look(machines, tmp_path):
    _, run = machines
    deepseek.report(run.run, tmp_path / "report.html")
    assert "Where its senses look" in (tmp_path / "report.html").read_text()
