"""What came of a search: the best, the gain, and the files."""

from __future__ import annotations

import json

import pytest

from deepseek.errors import BundleError
from deepseek.tuning import Facts, TrialRow
from deepseek.tuning.facts import row_text
from deepseek.tuning.folder import TuneFolder


def facts(rows, direction="minimize"):
    common = {"name": "churn", "metric": "log_loss", "space": {}, "search": {"type": "tpe"}, "pruner": {"type": "median"}}
    return Facts(**common, direction=direction, trials=tuple(rows), importance={}, metrics={}, seconds=1.0)


def row(number, value, state="complete", **changes):
    return TrialRow(number=number, state=state, value=value, **changes)


def test_the_best_is_a_complete_trial_and_the_first_of_equals():
    rows = [row(0, 0.5), row(1, 0.1, "pruned"), row(2, None, "failed"), row(3, 0.3), row(4, 0.3)]
    assert facts(rows).best.number == 3
    assert facts(rows, "maximize").best.number == 0
    assert facts(rows[1:3]).best is None


def test_a_trial_whose_metric_is_no_number_is_never_the_best():
    rows = [row(0, float("nan")), row(1, 0.5), row(2, 0.3)]
    assert facts(rows).best.number == 2
    assert facts(rows, "maximize").best.number == 1
    assert facts(rows).gain is None
    assert facts(rows[:1]).best is None


def test_the_gain_is_over_the_recipe_as_it_was():
    assert facts([row(0, 0.5), row(1, 0.3)]).gain == pytest.approx(0.2)
    assert facts([row(0, 0.5), row(1, 0.7)], "maximize").gain == pytest.approx(0.2)
    assert facts([row(0, 0.5), row(1, 0.7)]).gain == 0.0
    assert facts([row(0, None, "failed"), row(1, 0.7)]).gain is None


def test_facts_are_plain_json_and_come_back():
    given = facts([row(0, 0.5, parameters={"model": {"type": "mlp"}}), row(1, None, "failed", error="NaN")])
    assert Facts.from_json(json.loads(json.dumps(given.to_json()))) == given


def test_a_trial_is_one_line():
    line = row_text(row(3, 0.25, parameters={"train.learning_rate": 0.00123456}), "auc")
    assert "trial   3  complete  auc 0.25" in line
    assert "train.learning_rate=0.001235" in line
    assert "the recipe as it is" in row_text(row(0, 0.5), "auc")
    assert row_text(row(1, None, "failed", error="RunError: memory\nmore"), "auc").endswith("RunError: memory")


def test_folders_are_numbered_and_found(tmp_path):
    with pytest.raises(BundleError, match="no search"):
        TuneFolder.open(tmp_path)
    first, second = TuneFolder.create(tmp_path, "churn"), TuneFolder.create(tmp_path, "churn")
    assert [folder.path.name for folder in (first, second)] == ["tune-001", "tune-002"]
    first.search.write_text("{}")
    assert TuneFolder.open(tmp_path / "churn") == first
    second.append({"number": 0})
    second.append({"number": 1})
    assert [json.loads(line)["number"] for line in second.rows.read_text().splitlines()] == [0, 1]
