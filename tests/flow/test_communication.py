"""Several devices that say less to each other: from a recipe to the log."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import deepseek
from deepseek.errors import InputError, RecipeError


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    age, city = random.normal(40, 12, 600).round(1), random.choice(["Rome", "Oslo", "Lima"], 600)
    churned = (age + 15 * (city == "Oslo") + random.normal(0, 5, 600)) > 45
    return pa.table({"age": age, "city": city, "churned": np.where(churned, "yes", "no")})


def test_a_run_in_four_bits_with_uneven_shares_learns_and_says_what_it_sent(table, tmp_path, capfd):
    overrides = [
        *("train.devices=2", "train.communication={type: qsgd, bits: 4}", "train.shares=[3, 1]", "train.epochs=6"),
        *("model={type: mlp, depth: 2, width: 64, dropout: 0.0}", "train.precision=fp32"),
    ]
    run = deepseek.train(table, target="churned", out=tmp_path, overrides=overrides)
    assert run.metrics["test"]["auc"] > 0.85
    folder = Path(run)
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    logged = [line for line in lines if line["event"] == "log"]
    assert all(line["shares"] == [3, 1] for line in logged)
    assert all(0.12 < line["sent_share"] < 0.14 for line in logged)
    assert logged[-1]["sent_bytes"] > logged[0]["sent_bytes"] > 0
    assert "of what float32 takes" in capfd.readouterr().err
    assert json.loads((folder / "decisions.json").read_text())["measured"]["shares"] == [3, 1]


def test_groups_of_unknown_size_are_refused_before_anything_runs(table, tmp_path):
    given = {"target": "churned", "out": tmp_path, "overrides": ["train.devices=4", "train.communication=hierarchical"]}
    with pytest.raises(InputError, match=r"^train\.communication\.group is missing") as caught:
        deepseek.train(table, **given)
    assert caught.value.hint == "allowed for 4 devices: 2"
    assert {path.name for path in tmp_path.iterdir()} <= {".cache"}  # no run was begun


def test_what_has_nothing_to_do_is_refused_before_anything_runs(table, tmp_path):
    with pytest.raises(RecipeError, match="has nothing to do on one device"):
        deepseek.train(table, target="churned", out=tmp_path, overrides=["train.communication=qsgd"])
    with pytest.raises(RecipeError, match="did you mean 'qsgd'"):
        deepseek.train(table, target="churned", out=tmp_path, overrides=["train.devices=2", "train.communication=qsg"])
