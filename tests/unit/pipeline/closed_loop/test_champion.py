"""The deployed model, as the loop opens it: what may be written down of its log."""

import os

import numpy as np
import pyarrow as pa
import pytest

import deepseek
from deepseek.pipeline.closed_loop.champion import Champion
from deepseek.recipe.sections import MonitorSection, OnAlarmSection

URL = "postgresql://me:hush-hush@localhost:5432/log"


@pytest.fixture
def environment(monkeypatch):
    kept = {name: value for name, value in os.environ.items() if "PASS" not in name}
    monkeypatch.setattr(os, "environ", kept)
    return kept


def test_the_password_of_the_logs_database_is_saved_nowhere(environment, tmp_path):
    x = np.linspace(-1.0, 1.0, 60)
    rows = pa.table({"x": x, "y": np.where(x > 0, "yes", "no")})
    monitor = f"monitor={{store: '{URL}', keep_inputs: values, on_alarm: {{action: retrain}}}}"
    overrides = ["train.max_steps=1", "train.precision=fp32", "model={type: mlp, depth: 1, width: 4}", monitor]
    run = deepseek.train(rows, target="y", name="shop", out=tmp_path, overrides=overrides).run
    assert [path for path in tmp_path.rglob("*") if path.is_file() and b"hush-hush" in path.read_bytes()] == []
    champion = Champion.open(run)
    assert "hush-hush" not in str(champion.facts())
    assert champion.store_place == URL


def test_nor_is_one_that_a_section_was_made_with():
    section = MonitorSection(store=URL)
    assert Champion(None, section, OnAlarmSection()).store_name == "postgresql://me:***@localhost:5432/log"
