"""Wide and deep from a file to ONNX and OpenVINO: the same answers everywhere, hashed crosses included."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import deepseek
from deepseek.artifacts import StageCache
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.recipe import load_recipe

PROBABILITY = "probability_yes"


def clicks(rows, seed=0):
    draw = np.random.default_rng(seed)
    user, item = draw.integers(0, 60, rows), draw.integers(0, 80, rows)
    age = draw.normal(40, 9, rows)
    liked = (user * 7 + item * 3) % 5 < 2
    columns = {"user": [f"u{one}" for one in user], "item": [f"i{one}" for one in item], "liked": np.where(liked, "yes", "no")}
    return pa.table({**columns, "age": pa.array(age, mask=draw.random(rows) < 0.1), "sex": draw.choice(["f", "m"], rows)})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide")
    pa.parquet.write_table(clicks(900), folder / "clicks.parquet")
    crosses = [["user", "item"], ["user", "sex"], ["age", "sex"], ["user", "item", "sex"]]
    recipe = {
        "name": "clicks",
        "data": {"source": str(folder / "clicks.parquet"), "target": "liked"},
        "model": {"type": "wide_deep", "crosses": crosses, "buckets": 3001, "wide_rate": 4.0, "width": 16, "depth": 2},
        "train": {"epochs": 3, "batch_size": 32, "precision": "fp32"},
        "export": ["onnx", "openvino"],
    }
    return deepseek.run(recipe, out=folder / "runs")


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_what_is_exported_answers_as_what_was_trained(run, to):
    rows = clicks(300, seed=1)
    torch, exported = (deepseek.load(bundle).predict(rows) for bundle in (run.run, Path(run.run) / "export" / to))
    assert np.ptp(torch[PROBABILITY].to_numpy()) > 0.05
    np.testing.assert_allclose(exported[PROBABILITY].to_numpy(), torch[PROBABILITY].to_numpy(), atol=1e-4)


def test_combinations_that_share_a_weight_are_counted_before_training(run):
    dataset = make_dataset(load_recipe(Path(run.run) / "recipe.yaml"), StageCache(Path(run.run).parents[1] / ".cache"))
    codes = dataset.open("train").take(np.arange(len(dataset.open("train")))).inputs
    told = json.loads((Path(run.run) / "decisions.json").read_text())["crosses"]
    assert [one["columns"] for one in told] == [["user", "item"], ["user", "item", "sex"]]
    model = deepseek.load(run.run).backend.model
    weights = model.beside.codes.hashed(model.network.ready(codes, only=model.beside.reads))
    for one in told:
        rows = [tuple(row) for row in weights[tuple(one["columns"])].tolist()]
        by_weight = {}
        for *combination, weight in rows:
            by_weight.setdefault(weight, set()).add(tuple(combination))
        assert one["combinations"] == len({row[:-1] for row in rows})
        assert one["sharing"] == sum(len(alike) for alike in by_weight.values() if len(alike) > 1) > 0


def test_the_wide_part_has_learnt_something(run):
    model = deepseek.load(run.run).backend.model
    assert float(model.beside.weight.detach().abs().max()) > 0.01
    assert 2 * 3001 < model.beside.codes.rows < 3 * 3001  # two crosses are hashed, and two are not
