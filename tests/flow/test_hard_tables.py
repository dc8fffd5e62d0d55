"""Tables and runs that are awkward, through the whole road: what is reported is what NumPy finds, and what cannot go on says so."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import deepseek
from deepseek import progress
from deepseek.data.prepared import PreparedDataset
from deepseek.errors import CheckpointError, DataError, InputError, MissingExtraError
from deepseek.pipeline.evaluate import evaluate
from deepseek.pipeline.predict import predict
from deepseek.pipeline.run import run
from deepseek.training.trainer import Trainer

ROWS = 400
MLP = {"type": "mlp", "depth": 1, "width": 16}


@pytest.fixture(autouse=True)
def _quiet():
    progress.quiet()
    yield
    progress.quiet(False)


def recipe(path, *, target="y", model=MLP, train=None, **data):
    return {
        "name": "a",
        "data": {"source": str(path), "target": target, **data},
        "model": model,
        "train": {"epochs": 3, "precision": "fp32", **(train or {})},
    }


def binary(folder, name="a.csv"):
    random = np.random.default_rng(0)
    x = random.normal(size=ROWS)
    table = pa.table({"x": x, "z": random.normal(size=ROWS), "y": (x + 0.3 * random.normal(size=ROWS) > 0).astype(int)})
    pa.csv.write_csv(table, folder / name)
    return table


def rows_of_test(folder, table):
    (prepared,) = (folder / "runs/.cache/prepared").glob("*/test")
    return table.take(pa.array(PreparedDataset.open(prepared).source_rows))


@pytest.mark.parametrize("targets", [["y"], ["y", "u"]])
def test_metrics_and_answers_beside_a_large_mean_are_numpys(tmp_path, targets):
    random = np.random.default_rng(0)
    x = random.normal(size=ROWS)
    table = pa.table(
        {"x": x, "z": random.normal(size=ROWS), "y": 1.7e9 + 10 * x + random.normal(size=ROWS), "u": x + random.normal(size=ROWS)}
    )
    table = table.select(["x", "z", *targets])
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    result = run(recipe(tmp_path / "a.parquet", target=targets if len(targets) > 1 else "y"), out=tmp_path / "runs")
    test = rows_of_test(tmp_path, table)
    answers = deepseek.load(result.run).predict(test)
    errors, spreads = [], []
    for name in targets:
        answer = answers["prediction" if len(targets) == 1 else f"prediction_{name}"].to_numpy()
        assert answer.dtype == np.float64
        errors.append(answer - test[name].to_numpy())
        spreads.append(test[name].to_numpy() - test[name].to_numpy().mean())
    wanted = {
        "rmse": np.mean([np.sqrt(np.mean(error**2)) for error in errors]),
        "mae": np.mean([np.mean(np.abs(error)) for error in errors]),
        "r2": np.mean([1 - (error**2).sum() / (spread**2).sum() for error, spread in zip(errors, spreads, strict=True)]),
    }
    reported, again = result.metrics["test"], evaluate(result.run, test)["metrics"]
    for name, value in wanted.items():
        assert reported[name] == pytest.approx(value, rel=1e-5)
        assert again[name] == pytest.approx(reported[name], rel=1e-9)
    assert wanted["rmse"] > 0.5


def test_a_target_that_never_changes_is_refused(tmp_path):
    table = binary(tmp_path)
    pa.csv.write_csv(table.append_column("c", pa.array(np.full(ROWS, 0.1))), tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"training rows of 'c' are 0\.1"):
        run({**recipe(tmp_path / "a.csv", target=["x", "c"]), "task": "regression"}, out=tmp_path / "runs")


def test_a_table_without_validation_rows_trains(tmp_path):
    binary(tmp_path)
    rules = recipe(tmp_path / "a.csv", split={"train": 0.8, "validation": 0, "test": 0.2})
    result = run(rules, out=tmp_path / "runs")
    assert result.metrics["validation"] is None
    assert result.metrics["test"]["auc"] > 0.5


def test_labels_written_as_csv_are_read_back(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=ROWS)
    table = pa.table({"x": x, "y": [[name for name, there in (("a", v > 0), ("b", v < 0.5)) if there] for v in x]})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    result = run(recipe(tmp_path / "a.parquet"), out=tmp_path / "runs")
    predict(result.run, tmp_path / "a.parquet", tmp_path / "answers.csv")
    predict(result.run, tmp_path / "a.parquet", tmp_path / "answers.parquet")
    written = pa.csv.read_csv(tmp_path / "answers.csv")
    lists = pa.parquet.read_table(tmp_path / "answers.parquet")["prediction"].to_pylist()
    assert written["prediction"].to_pylist() == [",".join(labels) for labels in lists]
    pa.csv.write_csv(pa.table({"x": table["x"], "y": written["prediction"]}), tmp_path / "answered.csv")
    assert evaluate(result.run, tmp_path / "answered.csv")["metrics"]["accuracy"] == 1.0


def test_a_label_that_cannot_be_joined_is_refused(tmp_path):
    x = np.random.default_rng(0).normal(size=ROWS)
    table = pa.table({"x": x, "y": [["a,b"] if v > 0 else ["c"] for v in x]})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    result = run(recipe(tmp_path / "a.parquet", train={"epochs": 20, "learning_rate": 0.1}), out=tmp_path / "runs")
    with pytest.raises(DataError, match="a label contains ','"):
        predict(result.run, tmp_path / "a.parquet", tmp_path / "answers.csv")


def test_filling_forward_does_not_depend_on_the_batches(tmp_path):
    random = np.random.default_rng(0)
    rows = 6000
    x = np.where(random.random(rows) < 0.95, np.nan, random.normal(size=rows))
    known = np.flatnonzero(~np.isnan(x))
    filled = np.where(np.arange(rows) < known[0], 0.0, x[known[np.maximum(np.searchsorted(known, np.arange(rows), "right") - 1, 0)]])
    table = pa.table({"x": pa.array(x, from_pandas=True), "z": random.normal(size=rows), "y": (filled > 0).astype(int)})
    for name in ("a.parquet", "t.parquet"):
        pa.parquet.write_table(table, tmp_path / name)
    clean = [{"type": "missing", "strategy": "forward_fill", "columns": ["x"]}]
    result = run(recipe(tmp_path / "a.parquet", test=str(tmp_path / "t.parquet"), clean=clean), out=tmp_path / "runs")
    again = evaluate(result.run, tmp_path / "t.parquet")["metrics"]
    assert again == pytest.approx(result.metrics["test"], rel=1e-6)
    predictor = deepseek.load(result.run)
    one, other = predictor.predict(table, batch_rows=rows), predictor.predict(table, batch_rows=16)
    assert one["prediction"].equals(other["prediction"])
    assert again["accuracy"] == pytest.approx(np.mean(one["prediction"].to_numpy() == table["y"].to_numpy()))


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """A run that was interrupted after its fourth checkpoint: its recipe and its folder of runs."""
    binary(tmp_path)
    rules = recipe(tmp_path / "a.csv", train={"epochs": 8, "checkpoint": {"every_s": 0.0001, "keep": 3}})
    save, saved = Trainer._save, []

    def stopping(self):
        save(self)
        saved.append(self.state.step)
        if len(saved) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_save", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(rules, out=tmp_path / "runs")
    monkeypatch.setattr(Trainer, "_save", save)
    return rules, tmp_path / "runs"


@pytest.mark.parametrize(("saves", "told"), [(1, "saved up to step {}; go on with"), (0, "before the first checkpoint; begin again with")])
@pytest.mark.parametrize("how", [KeyboardInterrupt, SystemExit])
def test_what_an_interruption_has_left_is_told_by_what_is_on_the_disk(tmp_path, monkeypatch, capsys, saves, told, how):
    """A second Ctrl-C, or one before the first step, saves nothing; and whoever takes the machine back (SIGTERM) wants to know it, too."""
    progress.quiet(False)
    binary(tmp_path)
    seen = []

    def stopping(trainer):
        seen.append(trainer.state.step)
        if len(seen) == 3:
            trainer._save()
            trainer.keeper.wait()
            if not saves:
                shutil.rmtree(tmp_path / "runs/a/001/checkpoints")
        if len(seen) == 5:
            raise how

    monkeypatch.setattr(Trainer, "_look", stopping)
    with pytest.raises(how):
        run(recipe(tmp_path / "a.csv", train={"epochs": 8}), out=tmp_path / "runs")
    assert f"interrupted{', and' if saves else ''} {told.format(seen[2])}: deepseek run " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("train", "told"), [({"device": "gpu"}, "no device 'gpu'\n  allowed here: auto, cpu"), ({"devices": 1000}, "is 1000; this machine has")]
)
def test_a_device_that_is_not_there_is_refused_before_the_data_are_read(tmp_path, train, told):
    binary(tmp_path)
    with pytest.raises(InputError, match=told):
        run(recipe(tmp_path / "a.csv", train=train), out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_horovod_is_refused_before_the_data_are_read_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "horovod.torch", None)
    with pytest.raises(InputError, match="strategy: horovod needs Horovod for PyTorch"):
        run(recipe(tmp_path / "a.csv", train={"devices": 2, "strategy": "horovod"}), out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_cluster_without_ray_is_refused_before_the_data_are_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"needs 'ray', .*\n  install it with: pip install 'deepseek-framework\[cluster\]'"):
        run({**recipe(tmp_path / "a.csv"), "cluster": {"type": "ray", "workers": 2}}, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_changed_data_are_not_resumed_on(interrupted, tmp_path):
    rules, out = interrupted
    before = (out / "a/001/data.json").read_bytes()
    table = pa.csv.read_csv(tmp_path / "a.csv")
    flipped = pa.array(1 - table["y"].to_numpy())
    pa.csv.write_csv(table.set_column(2, "y", flipped), tmp_path / "a.csv")
    with pytest.raises(InputError, match="the data changed"):
        run(rules, out=out, resume=True)
    assert (out / "a/001/data.json").read_bytes() == before
    pa.csv.write_csv(table, tmp_path / "a.csv")
    assert run(rules, out=out, resume=True).metrics["test"]["auc"] > 0.5


def test_a_run_goes_on_once_its_damaged_checkpoint_is_deleted(interrupted, tmp_path):
    rules, out = interrupted
    newest = max((out / "a/001/checkpoints").glob("step-*"))
    with (newest / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match=newest.name) as caught:
        run(rules, out=out, resume=True)
    assert "delete that folder to go on from the checkpoint before it" in str(caught.value.hint)
    shutil.rmtree(newest)
    resumed, straight = run(rules, out=out, resume=True), run(rules, out=tmp_path / "other")
    assert resumed.metrics == straight.metrics
    starts = [json.loads(line) for line in (out / "a/001/events.jsonl").read_text().splitlines()]
    assert sum(event["event"] == "start" for event in starts) >= 2


def test_a_last_batch_of_one_row_does_not_stop_batch_normalisation(tmp_path):
    binary(tmp_path)
    rules = recipe(tmp_path / "a.csv", model={**MLP, "normalization": "batch"}, train={"batch_size": 279})
    assert run(rules, out=tmp_path / "runs").metrics["test"]["auc"] > 0.5
