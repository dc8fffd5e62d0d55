"""Runs side by side: sorted, their recipes' differences, and a paired comparison that neither misses a difference nor makes one up."""

import json
import math
import shutil
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import deepseek
from deepseek.cli import main
from deepseek.errors import BundleError, InputError
from deepseek.pipeline.compare import family_level

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


@pytest.fixture(scope="module")
def weighed(tmp_path_factory):
    """Two runs weighted by `w`, whose heavy rows are the hard ones, and one that is not weighted."""
    folder = tmp_path_factory.mktemp("weighted")
    random = np.random.default_rng(0)
    x, weight = random.normal(size=(1500, 2)).round(3), random.exponential(1.0, 1500).round(3)
    y = np.where(x[:, 0] * x[:, 1] + random.normal(size=1500) * (0.1 + (weight > 1)) > 0, "yes", "no")
    pa.csv.write_csv(pa.table({"a": x[:, 0], "b": x[:, 1], "w": weight, "y": y}), folder / "table.csv")

    def trained(name, **changes):
        job = recipe(folder, name, max_steps=changes.pop("max_steps", 100))
        return deepseek.run({**job, "data": {**job["data"], **changes}}, out=folder / "runs").run

    long, short = trained("long", weight="w"), trained("short", weight="w", max_steps=2)
    return folder, long, short, trained("plain", max_steps=3, fields={"w": "id"})


def test_weighted_runs_are_compared_by_weight(weighed):
    folder, long, short, _ = weighed
    found = deepseek.compare([long, short], output=folder / "page.html")
    (pair,) = found["pairs"]
    metrics = [run["metrics"]["test"] for run in found["runs"]]
    assert [entry["metric"] for entry in pair["metrics"]] == ["accuracy", "auc", "log_loss"]
    for entry in pair["metrics"]:
        assert entry["difference"] == pytest.approx(metrics[0][entry["metric"]] - metrics[1][entry["metric"]], abs=2e-6)
        assert entry["low"] < entry["difference"] < entry["high"]
        assert "mcnemar" not in entry
    assert pair["weights"] == "weighted by w"
    assert "(weighted by w)" in (folder / "page.html").read_text()


def test_runs_that_weigh_rows_unlike_are_compared_without_weights_and_it_is_said(weighed, capsys):
    folder, long, _, plain = weighed
    found = deepseek.compare([long, plain], output=folder / "page.html", metric="accuracy")
    (pair,) = found["pairs"]
    assert pair["weights"].startswith("not weighted, unlike the runs' metrics")
    assert "mcnemar" in pair["metrics"][0]
    assert "not weighted, unlike the runs" in (folder / "page.html").read_text()
    assert main(["compare", str(long), str(plain)]) == 0
    assert pair["weights"] in capsys.readouterr().out


def test_runs_without_weights_say_nothing_of_them(runs):
    _, good, weak = runs
    assert deepseek.compare([good, weak])["pairs"][0]["weights"] is None


def test_runs_are_sorted_by_the_metric_of_one_target(tmp_path):
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 400))
    pa.csv.write_csv(pa.table({"a": a, "b": b, "u": a + b, "v_w": a - b}), tmp_path / "table.csv")
    runs = []
    for name, most in (("short", 2), ("long", 80)):
        job = recipe(tmp_path, name, max_steps=most)
        runs.append(deepseek.run({**job, "data": {**job["data"], "target": ["u", "v_w"]}}, out=tmp_path / "runs").run)
    for metric in ("rmse_v_w", "r2_v_w"):
        found = deepseek.compare(runs, metric=metric)
        assert found["sorted_by"] == metric
        assert [run["run"] for run in found["runs"]] == ["long/001", "short/001"]
    with pytest.raises(InputError, match="no run has the metric 'rmse_x'"):
        deepseek.compare(runs, metric="rmse_x")


def test_runs_of_one_name_in_two_folders_are_told_apart(runs, tmp_path):
    _, good, weak = runs
    other = tmp_path / "other" / "good" / "001"
    shutil.copytree(good, other)
    found = deepseek.compare([good, other, weak])
    names = {run["folder"]: run["run"] for run in found["runs"]}
    assert names == {str(good): "runs/good/001", str(other): "other/good/001", str(weak): "runs/weak/001"}
    assert len({(pair["best"], pair["other"]) for pair in found["pairs"]}) == 2


def test_the_best_of_several_equal_runs_is_rarely_called_better(runs):
    """The best is chosen by the rows that it is then compared on: its differences are the largest of all pairs, not of its own."""
    scores = np.random.default_rng(1).normal(size=(100_000, 10))
    largest = scores.max(axis=1) - scores.min(axis=1)
    sure = NormalDist().inv_cdf((1 + family_level(10)) / 2) * math.sqrt(2)
    assert 0.02 < (largest > sure).mean() < 0.05
    assert family_level(2) == 0.95
    folder, good, weak = runs
    copy = folder / "runs" / "third" / "001"
    if not copy.exists():
        shutil.copytree(good, copy)
    assert [pair["level"] for pair in deepseek.compare([good, weak, copy])["pairs"]] == pytest.approx([1 - 0.05 / 3] * 2)


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
