"""Planted wrong labels are found among training rows alone, and a recipe does with them what it says, counted."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import deepseek
from deepseek.artifacts import CACHE, StageCache
from deepseek.errors import ColumnError, InputError, UnknownNameError
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.recipe import load_recipe

ROWS = 1_200
NAMES = np.array(["ash", "beech", "cedar"])
QUICK = {
    "model": {"type": "mlp", "width": 32, "depth": 1},
    "train": {"max_steps": 60, "batch_size": 64, "learning_rate": 0.02, "precision": "fp32", "epochs": 50},
    "data": {"split": {"on_leak": "ignore"}},
}


def forest(seed=0, rows=ROWS, wrong=0.1):
    random = np.random.default_rng(seed)
    true = random.integers(0, 3, rows)
    centres = np.array([[0, 0], [4, 0], [0, 4]])
    x = centres[true] + random.standard_normal((rows, 2))
    flipped = random.random(rows) < wrong
    label = np.where(flipped, (true + random.integers(1, 3, rows)) % 3, true)
    table = pa.table({"tree": [f"t{n}" for n in range(rows)], "a": x[:, 0], "b": x[:, 1], "kind": NAMES[label]})
    return table, flipped, NAMES[true]


def recipe(folder, **data):
    base = {**QUICK, "name": "forest", "data": {**QUICK["data"], "source": str(folder / "forest.csv"), "target": "kind", **data}}
    return load_recipe(base, folder=folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forest")
    table, flipped, true = forest()
    pa.csv.write_csv(table, folder / "forest.csv")
    found = deepseek.suspects(recipe(folder), folds=3, key="tree", out=folder / "runs")
    return folder, found, flipped, true


def training_rows(folder, **data):
    dataset = make_dataset(recipe(folder, **data), StageCache(folder / "runs" / CACHE))
    return np.asarray(dataset.open("train").source_rows), dataset


def test_planted_errors_are_found_and_put_right(home):
    folder, found, flipped, true = home
    rows = found.table["row"].to_numpy()
    training, _ = training_rows(folder)
    assert flipped[rows].mean() > 0.7
    assert flipped[rows].sum() > 0.8 * flipped[training].sum()
    right = flipped[rows]
    assert (np.array(found.table["suggested"].to_pylist())[right] == true[rows][right]).mean() > 0.95
    assert found.facts["share"] == pytest.approx(flipped[training].mean(), abs=0.04)
    assert (np.diff(found.table["margin"].to_numpy()) >= 0).all()


def test_every_training_row_is_judged_once_and_no_other(home):
    folder, found, _, _ = home
    training, _ = training_rows(folder)
    assert found.facts["judged"] == len(training)
    assert found.facts["not_judged"] == 0
    assert set(found.table["row"].to_pylist()) <= set(training.tolist())
    parts = [make_dataset(recipe(folder), StageCache(folder / "runs" / CACHE), inner=(3, fold)) for fold in range(3)]
    judged = np.concatenate([np.asarray(part.open("test").source_rows) for part in parts])
    assert sorted(judged) == sorted(training)
    for part in parts:
        assert not set(np.asarray(part.open("test").source_rows)) & set(np.asarray(part.open("train").source_rows))
        assert set(np.asarray(part.open("train").source_rows)) <= set(training)


def test_labels_of_test_rows_change_nothing(home, tmp_path):
    """A suspect must not depend on a test row, or what is measured after mending would be flattered."""
    folder, *_ = home
    _, dataset = training_rows(folder)
    table = pa.csv.read_csv(folder / "forest.csv")
    tested = np.asarray(dataset.open("test").source_rows)
    split = np.array(["train"] * len(table), dtype=object)
    split[tested] = "test"
    split[np.asarray(dataset.open("validation").source_rows)] = "validation"
    labels = np.array(table["kind"].to_pylist(), dtype=object)
    scrambled = labels.copy()
    scrambled[tested] = np.random.default_rng(1).permutation(labels[tested])
    told = []
    for number, given in enumerate((labels, scrambled)):
        place = tmp_path / str(number)
        place.mkdir()
        pa.csv.write_csv(table.set_column(3, "kind", pa.array(given)).append_column("part", pa.array(split)), place / "forest.csv")
        told.append(deepseek.suspects(recipe(place, split={"column": "part", "on_leak": "ignore"}), folds=2, out=place / "runs"))
    assert told[0].table.equals(told[1].table)
    assert len(told[0].table) > 20


def test_what_is_written(home):
    folder, found, _, _ = home
    assert found.folder == folder / "runs" / "forest" / "suspects-001"
    written = pa.csv.read_csv(found.file)
    assert written.column_names[:5] == ["rank", "row", "tree", "given", "suggested"]
    assert written["tree"].to_pylist() == [f"t{row}" for row in written["row"].to_pylist()]
    assert pa.parquet.read_table(found.folder / "suspects.parquet")["row"].to_pylist() == written["row"].to_pylist()
    kept = json.loads((found.folder / "suspects.json").read_text())
    assert kept["suspects"] == len(written)
    assert sum(one["suspects"] for one in kept["classes"]) == len(written)
    page = found.page.read_text()
    assert f"row {written['row'][0].as_py():,}" in page
    assert not (found.folder / "folds" / "001" / "checkpoints").exists()


@pytest.mark.parametrize("key", [None, "tree"])
def test_suspects_are_dropped_from_training_alone(home, key):
    folder, found, _, _ = home
    before, plain = training_rows(folder)
    after, dataset = training_rows(folder, suspects={"file": str(found.file), "action": "drop", "key": key})
    assert set(before) - set(after) == set(found.table["row"].to_pylist())
    for part in ("validation", "test"):
        assert np.array_equal(plain.open(part).source_rows, dataset.open(part).source_rows)
    assert dataset.document["suspects"]["dropped"] == len(found.table)
    assert any(f"{len(found.table):,} left out" in warning for warning in dataset.warnings)


def test_suspects_are_relabelled(home):
    folder, found, _, _ = home
    before, plain = training_rows(folder)
    after, dataset = training_rows(folder, suspects={"file": str(found.file), "action": "relabel"})
    assert np.array_equal(before, after)
    classes = dataset.preparation().target.spec.classes
    names = [classes[code] for code in dataset.open("train").column("target")]
    was = [classes[code] for code in plain.open("train").column("target")]
    meant = dict(zip(found.table["row"].to_pylist(), found.table["suggested"].to_pylist(), strict=True))
    assert names == [meant.get(row, old) for row, old in zip(after.tolist(), was, strict=True)]
    assert dataset.preparation().target.spec.counts != plain.preparation().target.spec.counts


def test_suspects_weigh_less_in_training_and_metrics_do_not_know(home):
    folder, found, _, _ = home
    rows, dataset = training_rows(folder, suspects={"file": str(found.file), "action": "weigh", "weight": 0.25})
    weight = dataset.open("train").column("weight")
    assert set(rows[weight < 1]) == set(found.table["row"].to_pylist())
    assert set(weight.tolist()) == {0.25, 1.0}
    assert dataset.open("test").take([0]).weight is None


def test_weights_multiply_the_rows_own(home, tmp_path):
    folder, found, _, _ = home
    table = pa.csv.read_csv(folder / "forest.csv")
    pa.csv.write_csv(table.append_column("w", pa.array(np.arange(1, ROWS + 1) / 10)), tmp_path / "forest.csv")
    suspects = {"file": str(found.file), "action": "weigh", "weight": 0.5}
    rows, dataset = training_rows(tmp_path, weight="w", suspects=suspects)
    own = (rows + 1) / 10
    halved = np.isin(rows, found.table["row"].to_numpy())
    np.testing.assert_allclose(dataset.open("train").column("weight"), own / own.mean() * np.where(halved, 0.5, 1.0), rtol=1e-5)


def test_single_lines_say_otherwise(home, tmp_path):
    folder, found, _, _ = home
    actions = ["keep", "Relabel", "", *["drop"] * (len(found.table) - 3)]
    pa.csv.write_csv(found.table.append_column("action", pa.array(actions)), tmp_path / "edited.csv")
    _, dataset = training_rows(folder, suspects={"file": str(tmp_path / "edited.csv"), "action": "weigh"})
    done = dataset.document["suspects"]
    assert (done["kept"], done["relabelled"], done["weighed"], done["dropped"]) == (1, 1, 1, len(found.table) - 3)


def test_rows_of_other_parts_stay_as_they_are_and_are_counted(home, tmp_path):
    folder, *_ = home
    _, plain = training_rows(folder)
    tested = np.asarray(plain.open("test").source_rows)[:7]
    table = pa.csv.read_csv(folder / "forest.csv")
    given = [table["kind"][int(row)].as_py() for row in tested]
    pa.csv.write_csv(pa.table({"row": tested, "given": given, "suggested": ["ash"] * 7}), tmp_path / "tested.csv")
    _, dataset = training_rows(folder, suspects={"file": str(tmp_path / "tested.csv"), "action": "relabel"})
    assert dataset.document["suspects"] == {**dataset.document["suspects"], "relabelled": 0, "not_training": 7}
    assert np.array_equal(dataset.open("test").column("target"), plain.open("test").column("target"))


def test_a_change_of_the_file_is_another_dataset(home, tmp_path):
    folder, found, _, _ = home
    file = tmp_path / "some.csv"
    sizes = []
    for count in (3, 9):
        pa.csv.write_csv(found.table.slice(0, count), file)
        sizes.append(len(training_rows(folder, suspects={"file": str(file)})[0]))
    assert sizes[0] - sizes[1] == 6


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda t: t.set_column(2, "given", pa.array(["oak"] * len(t))), InputError, "made for other rows"),
        (lambda t: t.set_column(1, "row", pa.array([ROWS] * len(t))), InputError, "names row"),
        (lambda t: t.drop_columns(["suggested"]), ColumnError, "lacks 'suggested'"),
        (lambda t: t.set_column(3, "suggested", pa.array(["assh"] * len(t))), UnknownNameError, "assh"),
        (lambda t: t.append_column("action", pa.array(["burn"] * len(t))), UnknownNameError, "burn"),
        (lambda t: pa.concat_tables([t, t.set_column(3, "suggested", t["given"])]), InputError, "one line a row"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(home, tmp_path, change, error, said):
    folder, found, _, _ = home
    pa.csv.write_csv(change(found.table), tmp_path / "bad.csv")
    with pytest.raises(error, match=said):
        training_rows(folder, suspects={"file": str(tmp_path / "bad.csv"), "action": "relabel"})


def test_a_list_without_a_line_changes_nothing(home, tmp_path):
    folder, found, _, _ = home
    pa.csv.write_csv(found.table.slice(0, 0), tmp_path / "none.csv")
    before, _ = training_rows(folder)
    after, dataset = training_rows(folder, suspects={"file": str(tmp_path / "none.csv")})
    assert np.array_equal(before, after)
    assert any("none changed" in warning for warning in dataset.warnings)


def test_a_file_that_is_not_there_is_named(home):
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        training_rows(home[0], suspects={"file": "nowhere.csv"})


def test_training_on_mended_labels_is_one_run(home):
    folder, found, _, _ = home
    result = deepseek.run(recipe(folder, suspects={"file": str(found.file), "action": "drop"}), out=folder / "runs")
    noted = json.loads((result.run / "data.json").read_text())
    assert noted["suspects"]["dropped"] == len(found.table)
    assert any("suspect labels" in warning for warning in result.warnings)


def test_an_interrupted_search_goes_on(home, monkeypatch, tmp_path):
    folder, found, _, _ = home
    (tmp_path / "forest.csv").write_bytes((folder / "forest.csv").read_bytes())
    import importlib

    module = importlib.import_module("deepseek.pipeline.suspects")
    follow, done = module.follow, []

    def once(*arguments, **named):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(1)
        return follow(*arguments, **named)

    monkeypatch.setattr(module, "follow", once)
    with pytest.raises(KeyboardInterrupt):
        deepseek.suspects(recipe(tmp_path), folds=3, out=tmp_path / "runs")
    monkeypatch.setattr(module, "follow", lambda *a, **k: done.append(2) or follow(*a, **k))
    again = deepseek.suspects(recipe(tmp_path), folds=3, out=tmp_path / "runs", resume=True)
    assert done == [1, 2, 2]
    assert again.folder.name == "suspects-001"
    assert again.table["row"].to_pylist() == found.table["row"].to_pylist()
    with pytest.raises(InputError, match="no search"):
        deepseek.suspects(recipe(tmp_path), folds=4, out=tmp_path / "runs", resume=True)


def test_a_search_does_not_go_on_with_other_rows(home, tmp_path):
    """The networks of the folds would judge rows that they were trained on."""
    folder, _, _, _ = home
    lines = (folder / "forest.csv").read_text().splitlines()[:301]
    (tmp_path / "forest.csv").write_text("\n".join(lines) + "\n")
    quick = {"folds": 2, "overrides": ["train.max_steps=2"], "out": tmp_path / "runs"}
    deepseek.suspects(recipe(tmp_path), **quick)
    (tmp_path / "forest.csv").write_text("\n".join([lines[0], *lines[20:]]) + "\n")
    with pytest.raises(InputError, match="the data changed since"):
        deepseek.suspects(recipe(tmp_path), resume=True, **quick)


def test_labels_are_judged_one_by_one(tmp_path):
    random = np.random.default_rng(3)
    x = random.standard_normal((900, 3))
    true = x[:, :2] > 0
    flipped = np.zeros((900, 2), dtype=bool)
    flipped[:, 0] = random.random(900) < 0.1
    given = (true ^ flipped).astype(int)
    table = pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "warm": given[:, 0], "dry": given[:, 1]})
    pa.csv.write_csv(table, tmp_path / "days.csv")
    days = {**QUICK, "name": "days", "data": {**QUICK["data"], "source": str(tmp_path / "days.csv"), "target": ["warm", "dry"]}}
    found = deepseek.suspects(days, folds=2, out=tmp_path / "runs", method="joint")
    warm = np.array(found.table["label"].to_pylist()) == "warm"
    rows = found.table["row"].to_numpy()
    assert flipped[rows[warm], 0].mean() > 0.6
    assert warm.mean() > 0.7
    assert {"true", "false"} == set(found.table["given"].to_pylist())
    dropped = load_recipe({**days, "data": {**days["data"], "suspects": {"file": str(found.file)}}})
    dataset = make_dataset(dropped, StageCache(tmp_path / "runs" / CACHE))
    assert dataset.document["suspects"]["dropped"] == len(set(rows.tolist()))
    with pytest.raises(InputError, match="several labels"):
        wrong = {**days, "data": {**days["data"], "suspects": {"file": str(found.file), "action": "relabel"}}}
        make_dataset(load_recipe(wrong), StageCache(tmp_path / "runs" / CACHE))


def test_a_number_has_no_class_to_be_suspected(home):
    folder = home[0]
    with pytest.raises(InputError, match="is a number"):
        deepseek.suspects(recipe(folder, target="a"), folds=2, out=folder / "runs")
    with pytest.raises(InputError, match="at least 2"):
        deepseek.suspects(recipe(folder), folds=1, out=folder / "runs")


def test_the_command_line_says_what_the_function_does(home, capsys):
    from deepseek.cli import main

    folder, found, _, _ = home
    (folder / "forest.yaml").write_text(recipe(folder).to_short_yaml())
    assert main(["suspects", str(folder / "forest.yaml"), "--folds", "3", "--out", str(folder / "again"), "--json", "--no-examples"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["suspects"] == len(found.table)
    assert "Left out" in (folder / "again" / "forest" / "suspects-001" / "suspects.html").read_text()
