"""Self-training from the recipe: rounds over rows without a label, what is kept, what is never learned from, and resuming."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import deepseek
from deepseek.artifacts import Bundle, RunFolder, read_json
from deepseek.cli import main
from deepseek.data.prepared import PreparedDataset
from deepseek.errors import DataError, InputError, RecipeError
from deepseek.monitoring.reference import ModelReference
from deepseek.pipeline import self_training
from deepseek.pipeline.analysis.finished import FinishedRun


def rings(rows, seed):
    """Two rings: few labels say little of their form, many rows without a label do."""
    draw = np.random.default_rng(seed)
    inner = draw.random(rows) < 0.5
    radius, angle = np.where(inner, 1.0, 2.2) + draw.normal(0, 0.4, rows), draw.uniform(0, 2 * np.pi, rows)
    return pa.table({"x": radius * np.cos(angle), "y": radius * np.sin(angle), "ring": np.where(inner, "inner", "outer")})


RECIPE = {
    "name": "rings",
    "data": {"source": "few.csv", "target": "ring", "split": {"train": 0.3, "validation": 0.35, "test": 0.35}},
    "model": {"type": "mlp", "width": 32},
    "train": {"epochs": 30, "batch_size": 16, "learning_rate": 0.01, "precision": "fp32", "monitor": "auc", "early_stopping": False},
    "self_training": {"unlabelled": "many.csv", "rounds": 2, "threshold": 0.6, "keep": "better"},
}


def recipe(**changed):
    return {**RECIPE, "self_training": {**RECIPE["self_training"], **changed}}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rings")
    pa.csv.write_csv(rings(150, 0), folder / "few.csv")
    pa.csv.write_csv(rings(300, 1).drop_columns(["ring"]), folder / "many.csv")
    return folder


@pytest.fixture
def there(tables, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for file in tables.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def decided(run):
    return read_json(RunFolder(run).decisions)["self_training"]


def test_rounds_are_trained_and_the_best_on_validation_rows_is_kept(there, capsys):
    run = deepseek.run(recipe())
    told = decided(run.run)
    values = [one["value"] for one in told["rounds"]]
    assert [one["number"] for one in told["rounds"]] == list(range(len(values)))
    assert told["metric"] == "auc"
    best = int(np.argmax(values))
    assert told["kept"] == best
    assert run.metrics["validation"]["auc"] == values[best]
    assert told["rounds"][1]["rows"] == sum(told["rounds"][1]["by_class"].values()) > 30
    assert "round 1: " in capsys.readouterr().err
    kept = Bundle.open(run.run / "rounds" / str(best) / "bundle").file("weights.safetensors").read_bytes()
    assert Bundle.open(run.bundle).file("weights.safetensors").read_bytes() == kept
    test = deepseek.load(run.run)
    assert test.bundle.read("metrics.json")["test"] == run.metrics["test"]
    reference = ModelReference.load(test.bundle)
    assert set(reference.inputs) == {"x", "y"}
    assert not list(run.run.rglob("checkpoints/step-*"))
    again = deepseek.run(recipe(), out="again")
    assert again.metrics == run.metrics  # seeds are exact


def test_validation_and_test_rows_stay_those_that_people_labelled(there):
    run = deepseek.run(recipe())
    finished = FinishedRun.open(run.run)
    dataset = finished.dataset()
    measured = {name: len(dataset.open(name)) for name in ("validation", "test")}
    assert sum(measured.values()) == 150 - len(dataset.open("train"))
    joined = list((there / "runs/.cache/self_training").iterdir())
    assert joined
    for folder in joined:
        assert not (folder / "test").exists()
        assert (folder / "validation/rows.bin").read_bytes() == (dataset.folder / "validation/rows.bin").read_bytes()
        train = PreparedDataset.open(folder / "train")
        labelled = len(dataset.open("train"))
        assert (train.source_rows[:labelled] >= 0).all()
        assert (train.source_rows[labelled:] < 0).all()


def test_off_means_off(there):
    """The ablation: without rows that become labels there is the supervised model, bit for bit."""
    short = ["train.epochs=3"]  # after more a few rows are sure to the last digit
    plain = deepseek.run({key: part for key, part in RECIPE.items() if key != "self_training"}, out="plain", overrides=short)
    never = deepseek.run(recipe(threshold={"inner": 1.0, "outer": 1.0}), out="never", overrides=short)
    assert decided(never.run)["kept"] == 0
    assert "no row was sure enough" in decided(never.run)["stopped"]
    assert any("labelled rows alone" in warning for warning in never.warnings)
    weights = [Bundle.open(one.bundle).file("weights.safetensors").read_bytes() for one in (plain, never)]
    assert weights[0] == weights[1]
    assert never.metrics == plain.metrics


def test_a_round_that_is_not_better_is_not_kept(there):
    run = deepseek.run(recipe(min_gain=0.9))
    assert decided(run.run)["kept"] == 0
    assert run.metrics["validation"]["auc"] == decided(run.run)["rounds"][0]["value"]


def test_by_default_only_what_is_surely_better_is_kept(there):
    """On 52 validation rows hardly anything is sure; every gain is told with its interval."""
    run = deepseek.run(recipe(keep="surely_better", rounds=1))
    (first,) = decided(run.run)["rounds"][1:]
    gain, low, high = first["gain"]
    assert low < gain < high
    assert gain == pytest.approx(first["value"] - decided(run.run)["rounds"][0]["value"])
    assert decided(run.run)["kept"] == (1 if low > 0 else 0)


def test_rows_without_a_target_in_the_same_file_are_learned_from(there):
    few, many = rings(150, 0), rings(300, 1)
    blank = many.set_column(2, "ring", pa.array(["" for _ in range(300)]))
    pa.csv.write_csv(pa.concat_tables([few, blank]), "few.csv")
    run = deepseek.run(recipe(unlabelled=None))
    assert decided(run.run)["unlabelled"] == {"rows": 300, "left_out": {}}
    assert decided(run.run)["rounds"][1]["rows"] > 30


def test_rows_that_give_validation_or_test_rows_away_are_left_out(there):
    few, many = rings(150, 0), rings(300, 1)
    pa.csv.write_csv(pa.concat_tables([few, many]), "many.csv")
    run = deepseek.run(recipe())
    held = sum(len(FinishedRun.open(run.run).dataset().open(name)) for name in ("validation", "test"))
    assert decided(run.run)["unlabelled"] == {"rows": 450 - held, "left_out": {"inputs exactly those of a validation or test row": held}}
    assert any("which is not looked at" in warning for warning in run.warnings)


@pytest.mark.parametrize("way", ["group", "time", "column"])
def test_rows_on_the_other_side_of_the_split_are_left_out(there, way):
    few, many = rings(150, 0), rings(300, 1).drop_columns(["ring"])
    if way == "group":
        marks = np.arange(150) % 30, np.arange(300) % 60
    elif way == "time":
        marks = np.arange(150), np.arange(300) - 150
    else:
        marks = np.repeat(["train", "validation", "test"], 50), np.resize(["train", "validation", "test"], 300)
    pa.csv.write_csv(few.append_column("mark", pa.array(marks[0])), "few.csv")
    pa.csv.write_csv(many.append_column("mark", pa.array(marks[1])), "many.csv")
    data = {**RECIPE["data"], "split": {way: "mark"}, "drop": ["mark"]}
    run = deepseek.run({**recipe(rounds=1), "data": data})
    dataset = FinishedRun.open(run.run).dataset()
    rows = {name: dataset.open(name).source_rows for name in ("train", "validation", "test")}
    if way == "group":
        held = set(marks[0][np.concatenate([rows["validation"], rows["test"]])])
        left_out = sum(mark in held for mark in marks[1])
    elif way == "time":
        left_out = int((marks[1] >= min(rows["validation"].min(), rows["test"].min())).sum())
    else:
        left_out = 200
    told = decided(run.run)["unlabelled"]
    assert told["rows"] == 300 - left_out
    assert list(told["left_out"].values()) == [left_out]


def test_a_run_that_was_killed_in_a_round_ends_with_the_same_weights(there, monkeypatch):
    whole = deepseek.run(recipe(), out="whole")
    done = self_training._Rounds._train
    asked = []

    def killed(self, number, dataset):
        if number == 2:
            raise KeyboardInterrupt
        return done(self, number, dataset)

    monkeypatch.setattr(self_training._Rounds, "_train", killed)
    with pytest.raises(KeyboardInterrupt):
        deepseek.run(recipe(), out="killed")
    monkeypatch.setattr(self_training._Rounds, "_train", done)
    ask = self_training.ask_rows
    monkeypatch.setattr(self_training, "ask_rows", lambda *given, **also: asked.append(1) or ask(*given, **also))
    resumed = deepseek.run(recipe(), out="killed", resume=True)
    assert not asked  # the labels of each round are kept
    assert resumed.metrics == whole.metrics
    weights = [Bundle.open(one.bundle).file("weights.safetensors").read_bytes() for one in (whole, resumed)]
    assert weights[0] == weights[1]
    pa.csv.write_csv(rings(10, 5), "few.csv")
    (resumed.run / "metrics.json").unlink()
    with pytest.raises((InputError, DataError)):
        deepseek.run(recipe(), out="killed", resume=True)


def test_it_stops_when_nothing_changes(there):
    run = deepseek.run(recipe(rounds=4, choose="top", share=1.0, balance="none", student={"type": "mlp", "width": 8}))
    told = decided(run.run)
    if len(told["rounds"]) == 5:
        assert told["stopped"] == "all 4 rounds were done"
        assert all(one["changed"] for one in told["rounds"][1:])
    else:
        assert "the same rows with the same labels" in told["stopped"]
    assert read_json(run.run / "rounds/1/bundle/model.json")["width"] == 8
    assert read_json(run.run / "rounds/0/bundle/model.json")["width"] == 32


@pytest.mark.parametrize("given", [{"soft": True}, {"weight": "confidence"}, {"weight": 0.5}, {"choose": "curriculum"}, {"most": 40}])
def test_every_way_of_learning_trains(there, given):
    run = deepseek.run(recipe(rounds=1, **given))
    train = PreparedDataset.open(next((there / "runs/.cache/self_training").iterdir()) / "train")
    batch = train.take(np.arange(len(train)))
    taken = decided(run.run)["rounds"][1]["rows"]
    target, weight = batch.targets["target"].numpy()[-taken:], batch.weight
    assert (np.isin(target, (0, 1)).all()) == ("soft" not in given)
    assert (weight is not None) == ("weight" in given)
    if given.get("weight") == "confidence":
        assert 0.6 <= weight[-taken:].min() < weight[-taken:].max() <= 1
    if "most" in given:
        assert taken <= 40


def test_the_report_tells_of_the_rounds(there):
    run = deepseek.run(recipe(rounds=1))
    page = deepseek.report(run.run).output.read_text(encoding="utf-8")
    assert "Self-training" in page
    assert "rows without a label" in page


def test_what_cannot_be_self_trained_is_refused(there, capsys):
    with pytest.raises(RecipeError, match="tune"):
        deepseek.run({**recipe(), "tune": {}})
    with pytest.raises(RecipeError, match="validation rows"):
        deepseek.run({**recipe(), "data": {**RECIPE["data"], "split": {"train": 0.8, "validation": 0, "test": 0.2}}})
    with pytest.raises(RecipeError, match="binary or multiclass"):
        deepseek.run({**recipe(), "task": "regression"})
    with pytest.raises(InputError, match="one class a row"):
        deepseek.run({**recipe(), "data": {**RECIPE["data"], "target": "x", "drop": ["ring"]}})
    with pytest.raises(DataError, match="no row without a label"):
        deepseek.run(recipe(unlabelled=None))
    Path("r.yaml").write_text(json.dumps(recipe(threshold=1.2)))
    assert main(["run", "r.yaml"]) == 2
    assert "threshold" in capsys.readouterr().err
