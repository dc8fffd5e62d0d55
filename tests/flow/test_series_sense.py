"""A series of numbers as one sense among several, from files to answers: with what is missing, in production and exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch

import deepseek
from deepseek.serving.rows.reader import RowReader

SETTINGS = {"epochs": 12, "batch_size": 16, "learning_rate": 0.01, "precision": "fp32", "early_stopping": False}
ENCODERS = {
    "cnn": {"type": "series_cnn", "width": 16, "depth": 3},
    "gru": {"type": "series_rnn", "cell": "gru", "width": 16},
}


def waves(rows, seed=0):
    """Return pulses of unequal length, quick or slow, some missing; a note that sometimes says so; a number that says nothing."""
    draw = np.random.default_rng(seed)
    table: dict[str, list] = {"pulse": [], "note": [], "heat": [], "state": []}
    for number in range(rows):
        state = ("slow", "quick")[number % 2]
        time = np.arange(int(draw.integers(15, 30)))
        pulse = 3 + np.sin(time * {"slow": 0.3, "quick": 1.5}[state] + draw.uniform(0, 6)) + draw.normal(0, 0.1, len(time))
        table["pulse"].append([round(float(value), 4) for value in pulse] if draw.random() > 0.15 else None)
        said = {"slow": "the beat is weak and far between today", "quick": "it races and will not come to rest"}[state]
        table["note"].append(said if draw.random() > 0.5 else "nothing else was written down for it")
        table["heat"].append(round(float(draw.normal(37, 1)), 2))
        table["state"].append(state)
    return table


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patients")
    table = waves(160)
    for number, pulse in enumerate(table["pulse"]):
        if pulse is not None:
            np.save(folder / f"{number}.npy", np.array(pulse))
    paths = [None if pulse is None else f"{number}.npy" for number, pulse in enumerate(table["pulse"])]
    pa.csv.write_csv(pa.table({**table, "pulse": paths}), folder / "patients.csv")
    recipe = {
        "name": "patients",
        "data": {"source": str(folder / "patients.csv"), "target": "state", "fields": {"note": "text"}},
        "model": {
            "type": "network",
            "encoders": {"series": {**ENCODERS["cnn"], "pool": "none"}, "text": {"type": "text_cnn", "filters": 16, "pool": "none"}},
            "fusion": {"type": "cross_attention", "width": 16, "heads": 2},
            "trunk": "identity",
        },
        "train": SETTINGS,
        "export": ["onnx"],
    }
    return deepseek.run(recipe, out=folder / "runs")


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_series_alone_is_learned(tmp_path, encoder):
    table = waves(160)
    rows = pa.table(
        {name: [value for value, pulse in zip(table[name], table["pulse"], strict=True) if pulse] for name in ("pulse", "state")}
    )
    recipe = {
        "data": {"source": "rows.parquet", "target": "state"},
        "model": {"type": "network", "encoders": {"series": ENCODERS[encoder]}, "trunk": "identity"},
        "train": SETTINGS,
    }
    pa.parquet.write_table(rows, tmp_path / "rows.parquet")
    recipe["data"]["source"] = str(tmp_path / "rows.parquet")
    run = deepseek.run(recipe, out=tmp_path / "runs")
    assert run.metrics["test"]["accuracy"] > 0.9
    reader = RowReader(deepseek.load(run.run).preparation)
    rows = reader.read_json(
        json.dumps([{"pulse": [1, 2.5, None]}, {"pulse": None}, {"pulse": []}, {"pulse": [[1, 2]]}, {"pulse": "x"}]).encode()
    )
    assert sorted(rows.bad) == [1, 2, 3, 4], "where the series is all there is, it must be there"
    assert "a list of finite numbers, oldest first" in json.dumps(rows.bad[1])


def test_a_series_named_by_path_is_one_sense_among_others(patients):
    assert patients.metrics["test"]["accuracy"] > 0.8
    network = deepseek.load(patients.run).backend.model.network
    assert set(network.senses.values()) == {"pulse", "note", "table"}


def test_what_a_row_lacks_is_under_the_mask_and_what_it_has_has_a_say(patients):
    predictor = deepseek.load(patients.run)
    table = pa.table(waves(40, seed=1)).drop_columns(["state"])
    whole = predictor.predict_proba(table)
    without = predictor.predict_proba(table.set_column(0, "pulse", pa.nulls(40, pa.list_(pa.float64()))))
    had = np.array([value is not None for value in table["pulse"].to_pylist()])
    assert np.abs(without[had] - whole[had]).max(axis=1).min() > 1e-4
    np.testing.assert_allclose(without[~had], whole[~had], atol=1e-6)
    arrays = predictor.arrays(table.combine_chunks().to_batches()[0])
    encoded = predictor.backend.model.network.encoded({name: torch.from_numpy(array) for name, array in arrays.items()})
    (key,) = (key for key, name in predictor.backend.model.network.senses.items() if name == "pulse")
    assert encoded[key].mask.any(dim=1).tolist() == had.tolist()


def test_a_row_alone_is_answered_as_among_longer_ones(patients):
    predictor = deepseek.load(patients.run)
    table = pa.table(waves(6, seed=2)).drop_columns(["state"])
    alone = np.concatenate([predictor.predict_proba(table.slice(row, 1)) for row in range(6)])
    np.testing.assert_allclose(predictor.predict_proba(table), alone, atol=1e-5)


def test_requests_and_exports_bear_missing_series(patients):
    own, other = deepseek.load(patients.run), deepseek.load(Path(patients.run) / "export" / "onnx")
    table = pa.table(waves(30, seed=3)).drop_columns(["state"])
    np.testing.assert_allclose(own.predict_proba(table), other.predict_proba(table), atol=1e-4)
    reader = RowReader(own.preparation)
    rows = reader.read_json(
        json.dumps([{"pulse": None, "note": None, "heat": 37}, {"pulse": [3, 4, 2.5], "note": "x", "heat": None}]).encode()
    )
    assert not rows.bad
    assert own.answer(rows.batch).num_rows == 2
    again = own.predict_proba(pa.table({"pulse": [None, [3, 4, 2.5]], "note": [None, "x"], "heat": [37.0, None]}))
    np.testing.assert_allclose(own.predict_proba(pa.Table.from_batches([rows.batch])), again, atol=1e-6)


def test_series_that_cannot_be_read_are_set_aside_with_their_reason(tmp_path):
    table = waves(80)
    table["pulse"] = [pulse or [1.0] for pulse in table["pulse"]]
    for number, pulse in enumerate(table["pulse"]):
        np.save(tmp_path / f"{number}.npy", np.array(pulse))
    (tmp_path / "3.npy").write_bytes(b"no array")
    paths = [f"{number}.npy" for number in range(80)]
    pa.csv.write_csv(pa.table({"pulse": paths, "heat": table["heat"], "state": table["state"]}), tmp_path / "rows.csv")
    run = deepseek.train(tmp_path / "rows.csv", target="state", out=tmp_path / "runs", overrides=["train.epochs=1"])
    data = json.loads((Path(run.run) / "data.json").read_text())
    assert "cannot be read" in json.dumps(data)
    assert sum(part["rows"] for part in data["rows"].values() if "rows" in part) == 79
    chosen = json.loads((Path(run.run) / "decisions.json").read_text())["chosen"]
    assert chosen["model"]["reason"] == "series beside number: each sense by its usual encoder"
