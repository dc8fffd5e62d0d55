"""Groups: who is missing beside the shares that were expected, and who is surely worse, on rows and on the page."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import deepseek
from deepseek.errors import InputError, UnknownNameError

QUICK = ("train.max_steps=150", "model={type: mlp, width: 32}", "train.precision=fp32", "seed=1", "data.drop=[sex]")
ROWS = 3_000


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model that does not see `sex`, of whose women the target is a coin's; half of them should be women, and a tenth is."""
    folder = tmp_path_factory.mktemp("groups")
    random = np.random.default_rng(0)
    x, sex = random.standard_normal(ROWS), np.where(random.random(ROWS) < 0.1, "f", "m")
    y = np.where(sex == "f", random.random(ROWS) < 0.5, x > 0.5)
    table = pa.table({"x": x, "z": random.standard_normal(ROWS), "sex": sex, "y": np.where(y, "yes", "no")})
    pa.csv.write_csv(table, folder / "people.csv")
    return deepseek.train(folder / "people.csv", target="y", out=folder / "runs", overrides=QUICK, progress=False).run, table


@pytest.fixture(scope="module")
def written(run):
    return deepseek.report(run[0], by={"sex": {"f": 0.5, "m": 0.49, "x": 0.01}, "x": None})


def groups_of(written, column):
    (found,) = [one for one in written.facts.rows.coverage if one.column == column]
    return {one.name: one for one in found.groups}, found


def test_groups_of_a_column_that_the_model_never_saw(run, written):
    groups, found = groups_of(written, "sex")
    assert [one.name for one in found.groups] == ["x", "f", "m"]
    assert groups["f"].surely_worse
    assert not groups["m"].surely_worse
    assert groups["f"].error[0] > 0.3 > groups["m"].error[0]
    assert groups["f"].error[1] < groups["f"].error[0] < groups["f"].error[2]
    assert {name: one.verdict for name, one in groups.items()} == {"f": "rare", "m": "frequent", "x": "missing"}


def test_training_rows_and_rates_are_those_of_the_rows(run, written):
    folder, table = run
    noted = json.loads((folder / "data.json").read_text())
    groups, found = groups_of(written, "sex")
    assert sum(one.training for one in found.groups) == noted["rows"]["train"]["rows"]
    assert groups["f"].looked_at + groups["m"].looked_at == noted["rows"]["test"]["rows"]
    men = np.array(table["sex"].to_pylist()) == "m"
    yes = np.array(table["y"].to_pylist()) == "yes"
    assert groups["m"].rate[1] < yes[men].mean() < groups["m"].rate[2]
    assert found.rate == "share of y = yes"


def test_numbers_are_cut_alike_in_training_and_test_rows(written):
    groups, found = groups_of(written, "x")
    assert len(groups) == 5
    assert sum(one.training for one in found.groups) > 2_000
    assert max(one.share for one in found.groups) < 0.25


def test_the_page_has_them(written):
    page = written.output.read_text()
    assert "Surely worse than the others" in page
    assert "Fewer training rows than expected" in page
    assert written.to_json()["coverage"][0]["column"] == "sex"


def test_without_being_asked_for_there_are_none(run):
    plain = deepseek.report(run[0])
    assert not plain.facts.rows.coverage
    assert "Groups by" not in plain.output.read_text()


def test_from_the_command_line(run, capsys):
    from deepseek.cli import main

    assert main(["report", str(run[0]), "--by", "sex=f:0.5,m:0.5"]) == 0
    said = capsys.readouterr().out
    assert "surely worse: f" in said
    assert "fewer than expected: f" in said
    assert main(["report", str(run[0]), "--by", "sex=f:half"]) != 0
    assert "sex=f:0.5,m:0.5" in capsys.readouterr().err


def test_a_column_that_is_not_there_and_shares_that_are_none(run):
    with pytest.raises(UnknownNameError, match="sec"):
        deepseek.report(run[0], by=["sec"])
    with pytest.raises(InputError, match="expected shares"):
        deepseek.report(run[0], by={"sex": {"f": 0.7, "m": 0.7}})


def test_a_number_to_predict_has_a_mean_by_group(tmp_path):
    random = np.random.default_rng(1)
    town = random.choice(["Rome", "Oslo"], 800)
    x = random.standard_normal(800)
    price = 100.0 + 10 * x + 5 * (town == "Rome")
    pa.csv.write_csv(pa.table({"x": x, "town": town, "price": price}), tmp_path / "flats.csv")
    run = deepseek.train(tmp_path / "flats.csv", target="price", out=tmp_path / "runs", overrides=QUICK[:4], progress=False).run
    (found,) = deepseek.report(run, by="town").facts.rows.coverage
    rates = {one.name: one.rate for one in found.groups}
    for name, (value, low, high) in rates.items():
        assert low < value < high
        assert value == pytest.approx(price[town == name].mean(), abs=2)
