"""Runs side by side: sorted, their recipes' differences, and a paired comparison that neither misses a difference nor makes one up."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import deepseek
from deepseek.errors import BundleError, InputError

MODEL = {"type": "mlp", "depth": 2, "width": 32}


def recipe(folder, name, **train):
    settings = {"precision": "fp32", "batch_size": 64, "learning_rate": 0.01, "early_stopping": False, **train}
    return {"name": name, "data": {"source": str(folder / "table.csv"), "target": "y"}, "model": MODEL, "train": settings}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    random = np.random.default_rng(0)
    x = random.normal(size=(3000, 3)).round(3)
    y = np.where(x[:, 0] * x[:, 1] + 0.3 * random.normal(size=3000) > 0, "yes", "no")
    pa.csv.write_csv(pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": y}), folder / "table.csv")
    out = folder / "runs"
    good = deepseek.run(recipe(folder, "good", max_steps=300), out=out).run
    weak = deepseek.run(recipe(folder, "weak", max_steps=2), out=out).run
    return folder, good, weak


def test_the_better_run_is_first_and_surely_better(runs):
    folder, good, weak = runs
    found = deepseek.compare([weak, good], output=folder / "page.html")
    assert [run["run"] for run in found["runs"]] == ["good/001", "weak/001"]
    assert {entry["key"]: entry["values"] for entry in found["differing"]} == {"train.max_steps": [300, 2]}
    (pair,) = found["pairs"]
    assert pair["rows"] == 450
    by_metric = {entry["metric"]: entry for entry in pair["metrics"]}
    assert {entry["verdict"] for entry in pair["metrics"]} == {"better"}
    metrics = [run["metrics"]["test"] for run in found["runs"]]
    for name in ("accuracy", "auc", "log_loss"):
        assert by_metric[name]["difference"] == pytest.approx(metrics[0][name] - metrics[1][name], abs=2e-5)
        assert by_metric[name]["low"] < by_metric[name]["difference"] < by_metric[name]["high"]
    page = (folder / "page.html").read_text()
    for words in ("good/001", "train.max_steps", "Learning curves", "better"):
        assert words in page
    json.dumps(found, allow_nan=False)


def test_a_run_and_its_copy_are_not_distinguishable(runs):
    _, good, _ = runs
    copy = good.parents[1] / "copy" / "001"
    if not copy.exists():
        shutil.copytree(good, copy)
    found = deepseek.compare([good, copy])
    assert found["differing"] == []
    assert {entry["verdict"] for entry in found["pairs"][0]["metrics"]} == {"not distinguishable"}


def test_runs_on_other_rows_are_not_compared_row_by_row(runs):
    folder, good, _ = runs
    other = deepseek.run({**recipe(folder, "other", max_steps=2), "seed": 5}, out=folder / "runs").run
    found = deepseek.compare([good, other])
    assert found["pairs"][0]["refused"] == "their test rows are not the same rows"
    assert found["pairs"][0]["metrics"] == []


def test_data_that_changed_are_not_asked_again(runs, tmp_path):
    folder, good, weak = runs
    table = folder / "table.csv"
    kept = table.read_bytes()
    table.write_bytes(kept + b"1,1,1,yes\n")
    try:
        assert "its data changed" in deepseek.compare([good, weak])["pairs"][0]["refused"]
    finally:
        table.write_bytes(kept)


def test_numbers_are_compared_by_their_errors(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=1500)
    pa.csv.write_csv(pa.table({"x": x, "z": random.normal(size=1500), "y": 3 * x + random.normal(size=1500)}), tmp_path / "table.csv")
    runs = [
        deepseek.run(recipe(tmp_path, name, max_steps=steps), out=tmp_path / "runs").run for name, steps in (("long", 200), ("short", 2))
    ]
    found = deepseek.compare(runs)
    entry = found["pairs"][0]["metrics"][0]
    metrics = [run["metrics"]["test"]["rmse"] for run in found["runs"]]
    assert (entry["metric"], entry["verdict"]) == ("rmse", "better")
    assert entry["difference"] == pytest.approx(metrics[0] - metrics[1], rel=1e-4)


@pytest.mark.parametrize("kind", ["labels", "values"])
def test_several_targets_are_compared_together(tmp_path, kind):
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 600))
    y, z = (a + b, a - 3 * b) if kind == "values" else ((a > 0).astype(int), (b > 0.3).astype(int))
    pa.csv.write_csv(pa.table({"a": a, "b": b, "y": y, "z": z}), tmp_path / "table.csv")
    runs = []
    for name, most in (("long", 60), ("short", 2)):
        job = recipe(tmp_path, name, max_steps=most)
        runs.append(deepseek.run({**job, "data": {**job["data"], "target": ["y", "z"]}}, out=tmp_path / "runs").run)
    found = deepseek.compare(runs)
    metrics = [run["metrics"]["test"] for run in found["runs"]]
    for entry in found["pairs"][0]["metrics"]:
        name, sign = ("accuracy", -1) if kind == "labels" else (entry["metric"], 1)
        assert entry["verdict"] == "better"
        assert entry["difference"] == pytest.approx(sign * (metrics[0][name] - metrics[1][name]), rel=1e-4)


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    _, good, weak = runs
    with pytest.raises(InputError, match="one run"):
        deepseek.compare([good])
    with pytest.raises(InputError, match="twice"):
        deepseek.compare([good, good / "bundle"])
    with pytest.raises(InputError, match="no run has the metric 'rmse'"):
        deepseek.compare([good, weak], metric="rmse")
    with pytest.raises(BundleError):
        deepseek.compare([good, tmp_path])
