"""One and the same row has one answer, in whatever kind of table and beside whatever other rows it comes."""

import json

import numpy as np
import pandas as pd
import pytest

import deepseek

FAST = ["train.epochs=4", "model={type: mlp, depth: 1, width: 16}", "train.precision=fp32"]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    code, flag = rng.choice(["1.50", "2.50", "abc"], 300), rng.choice(["True", "False", "maybe"], 300)
    frame = pd.DataFrame({"code": code, "flag": flag, "on": rng.integers(0, 2, 300), "x": rng.normal(size=300)})
    frame["y"] = np.where((code == "1.50") ^ (frame["on"] == 1), "1.0", np.where(frame["x"] > 1.5, "none", "2.0"))
    return frame


@pytest.fixture(scope="module")
def run(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("types")
    rows.to_csv(folder / "a.csv", index=False)
    return deepseek.train(str(folder / "a.csv"), target="y", out=folder / "runs", overrides=FAST, progress=False).run


def probabilities(table):
    frame = table if isinstance(table, pd.DataFrame) else table.to_pandas()
    return frame.filter(like="probability_").to_numpy()


def test_a_file_without_the_odd_value_is_read_as_the_training_file_was(rows, run, tmp_path):
    plain = rows[(rows["code"] != "abc") & (rows["flag"] != "maybe")]
    plain.to_csv(tmp_path / "s.csv", index=False)
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plain.to_dict("records")))
    plain.iloc[:1].to_csv(tmp_path / "one.csv", index=False)
    predictor = deepseek.load(run)
    wanted = probabilities(predictor.predict(plain))
    assert np.ptp(wanted, axis=0).max() > 0.05
    for name, rows_of_it in (("s.csv", len(plain)), ("s.jsonl", len(plain)), ("one.csv", 1)):
        np.testing.assert_allclose(probabilities(predictor.predict(str(tmp_path / name))), wanted[:rows_of_it], atol=1e-6)


def test_the_target_is_read_as_in_training_too(rows, run, tmp_path):
    known = rows[rows["y"] != "none"]
    known.to_csv(tmp_path / "s.csv", index=False)
    measured = deepseek.evaluate(run, str(tmp_path / "s.csv"))
    assert (measured["rows"], measured["set_aside"], measured["warnings"]) == (len(known), {}, [])
    assert measured["metrics"]["accuracy"] == deepseek.evaluate(run, known)["metrics"]["accuracy"]


def test_booleans_stand_for_zero_and_one(rows, run):
    predictor = deepseek.load(run)
    as_booleans = rows.assign(on=rows["on"].astype(bool))
    np.testing.assert_array_equal(probabilities(predictor.predict(as_booleans)), probabilities(predictor.predict(rows)))


def test_unknown_categories_are_told(rows, run, tmp_path):
    strange = rows.assign(code=np.resize(["1,50", "1.50"], len(rows)))
    for told in (deepseek.evaluate(run, strange), deepseek.predict(run, strange, tmp_path / "o.csv")):
        assert len(told["warnings"]) == 1
        assert told["warnings"][0].startswith("50% of the values of 'code' in the rows were never seen in training")
