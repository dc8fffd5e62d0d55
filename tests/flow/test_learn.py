"""Learning from a stream, from the command line: every row answered first, changes seen, a bundle that is like any other."""

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import deepseek
from deepseek import progress
from deepseek.artifacts import Bundle, RunFolder
from deepseek.cli import main
from deepseek.errors import ColumnError, InputError, UnknownNameError
from deepseek.monitoring.reference import ModelReference

RECIPE = """
name: s
data: {source: stream.csv, target: y, drop: [at]}
model: {type: mlp, width: 16}
learn:
  {warmup: 300, batch_rows: 16, optimizer: {type: adam, learning_rate: 0.01}, replay: 16, at_change: retrain, recent: 200}
"""


def stream(rows, seed=0, change=None):
    draw = np.random.default_rng(seed)
    x, c = draw.normal(size=rows), draw.choice(["a", "b"], rows)
    sign = np.where(np.arange(rows) < (change or rows), 1, -1)
    yes = sign * (x + (c == "a") - 0.5) > 0
    return pa.table({"at": np.arange(rows), "x": x, "c": c, "y": np.where(yes, "yes", "no")})


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(RECIPE)
    pa.csv.write_csv(stream(3000, change=1800), "stream.csv")
    return tmp_path


def learned(capsys, *arguments):
    assert main(["learn", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_stream_is_learned_and_its_change_seen(there, capsys):
    found = learned(capsys, "s.yaml")
    assert found["rows"] == 3000
    assert found["accuracy"] > 0.75
    assert found["accuracy"] > found["no_change"] + 0.2
    assert any(1800 <= place < 2200 for place in found["changes"]["adwin"])
    assert found["curve"][-1][1] > 0.85
    later = stream(500, seed=5, change=1)
    assert deepseek.evaluate(found["run"], later)["metrics"]["accuracy"] > 0.85
    reference = ModelReference.load(Bundle.open(Path("runs/s")))
    assert reference.metrics["accuracy"].value > 0.8
    assert {"x", "c"} <= set(reference.inputs)
    assert deepseek.watch("runs/s", later)["alarms"] == []


def test_people_see_the_accuracy_beside_no_change(there, capsys):
    assert main(["learn", "s.yaml", "--set", "learn.detectors=[adwin, ddm]"]) == 0
    printed = capsys.readouterr().out
    assert "no change" in printed
    assert "changes seen by ddm" in printed


def test_every_answer_comes_before_its_row_is_learned(there, capsys):
    table = stream(2000)
    draw = np.random.default_rng(1)
    lot = table.set_column(3, "y", pa.array(np.where(draw.random(2000) < 0.5, "yes", "no")))
    pa.csv.write_csv(lot, "lot.csv")
    assert learned(capsys, "s.yaml", "lot.csv")["accuracy"] == pytest.approx(0.5, abs=0.05)


def test_a_run_learns_on_from_where_it_is(there, capsys):
    pa.csv.write_csv(stream(1500, seed=1), "first.csv")
    pa.csv.write_csv(stream(600, seed=2), "monday.csv")
    pa.csv.write_csv(stream(600, seed=3), "tuesday.csv")
    first = learned(capsys, "s.yaml", "first.csv")
    found = learned(capsys, first["run"], "monday.csv", "tuesday.csv")
    assert (found["run"], found["rows"]) == ("runs/s/002", 1200)
    assert found["curve"][0][1] > 0.9  # from the first rows on
    bundles = [Bundle.open(Path(one["run"])) for one in (first, found)]
    assert bundles[0].read("data.json") == bundles[1].read("data.json")


def test_rows_are_put_in_the_order_of_time(there, capsys):
    table = stream(3000, change=1800)
    pa.csv.write_csv(table.take(pa.array(np.random.default_rng(0).permutation(3000))), "mixed.csv")
    sorted_, mixed = learned(capsys, "s.yaml", "mixed.csv", "--time", "at"), learned(capsys, "s.yaml", "mixed.csv")
    assert sorted_["accuracy"] > mixed["accuracy"] + 0.1
    assert sorted_["accuracy"] == learned(capsys, "s.yaml", "stream.csv")["accuracy"]


def test_the_bundle_is_written_on_the_way(there, monkeypatch):
    from deepseek.pipeline.online import saving

    written = []
    write = saving.write_model
    monkeypatch.setattr(saving, "write_model", lambda target, *rest, **how: written.append(target) or write(target, *rest, **how))
    deepseek.learn("s.yaml", overrides=["learn.save_every=800"])
    assert len(written) == 4  # at 800, 1,600, 2,400 and at the end
    assert deepseek.load("runs/s").predict(stream(5)).num_rows == 5


def test_a_table_of_a_database_is_learned_from_as_a_file_is(there, capsys):
    with sqlite3.connect(there / "stream.db") as database:
        stream(600).to_pandas().to_sql("events", database, index=False)
    query = ["--query", "select * from events order by at"]
    assert learned(capsys, "s.yaml", "sqlite:///stream.db", *query)["rows"] == 600
    assert main(["learn", "s.yaml", "stream.csv", *query]) == 2
    assert main(["learn", "s.yaml", *query]) == 2


def test_a_learner_that_is_interrupted_leaves_the_bundle_whole(there, monkeypatch):
    remove = shutil.rmtree

    def interrupted(path, **how):
        if found := sorted(Path(path).glob("*.json")):
            found[0].unlink()  # as far as it came
            raise KeyboardInterrupt
        remove(path, **how)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            deepseek.learn("s.yaml", overrides=["learn.save_every=800"])
    (run,) = Path("runs/s").iterdir()
    assert deepseek.load(run / "bundle").predict(stream(5)).num_rows == 5


def test_what_happens_at_a_change_is_the_recipes_to_say(there, capsys):
    reached = {how: learned(capsys, "s.yaml", "--set", f"learn.at_change={how}")["accuracy"] for how in ("nothing", "forget", "retrain")}
    assert reached["retrain"] > reached["nothing"] + 0.05
    assert reached["forget"] > reached["nothing"] + 0.02


def test_what_cannot_be_used_is_counted(there):
    table = stream(1000)
    names = table["y"].to_pylist()
    names[700:720] = ["perhaps"] * 20
    names[800:805] = [None] * 5
    found = deepseek.learn("s.yaml", [table.set_column(3, "y", pa.array(names))])
    assert found["rows"] == 975
    assert found["set_aside"] == {"target class unseen at the beginning": 20, "target missing": 5}


def test_what_cannot_be_is_said(there):
    deepseek.learn("s.yaml", [stream(600)])
    with pytest.raises(InputError, match="no rows are given"):
        deepseek.learn("runs/s")
    with pytest.raises(UnknownNameError, match="column of times 'when'"):
        deepseek.learn("s.yaml", overrides=["learn.time=when"])
    with pytest.raises(InputError, match="no share of right answers"):
        deepseek.learn("s.yaml", [stream(600)], overrides=["data.target=x"])
    assert [path.name for path in Path("runs/s").iterdir()] == ["001"]  # what failed before it began leaves no folder


def test_a_warm_up_longer_than_the_stream_is_said(there):
    with progress.collected_warnings() as said:
        deepseek.learn("s.yaml", [stream(300)])
    assert not said
    with progress.collected_warnings() as said:
        deepseek.learn("s.yaml", [stream(200)])
    assert ["learn.warmup is 300, and the stream has had 200 rows" in text for text in said] == [True]
    with progress.collected_warnings() as said:
        deepseek.learn("runs/s", [stream(200)])  # its transforms are there
    assert not said


def test_a_run_that_is_held_does_not_stand_for_its_name(there):
    for seed in (1, 2):
        deepseek.learn("s.yaml", [stream(600, seed)])
    RunFolder(Path("runs/s/002")).hold("a candidate")
    assert deepseek.load("runs/s").bundle.path == Path("runs/s/001/bundle")
    assert RunFolder.open(Path("runs/s")).path == Path("runs/s/001")
    RunFolder(Path("runs/s/002")).release()
    assert deepseek.load("runs/s").bundle.path == Path("runs/s/002/bundle")


def test_weights_count_and_must_be_there(there):
    """Of the two halves of the rows, whose classes stand the other way round, only one weighs anything."""
    table = stream(2000)
    odd = np.arange(2000) % 2 == 1
    turned = pa.array([("no" if one == "yes" else "yes") if swap else one for one, swap in zip(table["y"].to_pylist(), odd, strict=True)])
    mixed = table.set_column(3, "y", turned).append_column("w", pa.array(np.where(odd, 0.0, 2.0)))
    pa.csv.write_csv(mixed, "mixed.csv")
    found = deepseek.learn("s.yaml", ["mixed.csv"], overrides=["data.weight=w", "learn.at_change=nothing"])
    later = stream(400, seed=5).append_column("w", pa.array(np.ones(400)))
    assert deepseek.evaluate(found["run"], later)["metrics"]["accuracy"] > 0.85
    pa.csv.write_csv(stream(50), "bare.csv")
    with pytest.raises(ColumnError, match="the rows lack the column of weights 'w'"):
        deepseek.learn(found["run"], ["bare.csv"])
