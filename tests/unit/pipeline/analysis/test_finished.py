"""A finished run's folder is read as it was left, also by a process that was killed while it wrote."""

import json

import pytest

from deepseek.artifacts import RunFolder
from deepseek.errors import BundleError, InputError
from deepseek.pipeline.analysis.finished import FinishedRun
from deepseek.recipe import load_recipe


def test_a_line_that_a_kill_cut_off_is_passed_over(tmp_path):
    recipe = load_recipe({"data": {"source": "t.csv", "target": "y"}})
    run = FinishedRun(RunFolder(tmp_path), recipe, recipe, {})
    assert list(run.events()) == []
    lines = [{"event": "log", "step": 1}, {"event": "validation", "metrics": {}}]
    run.folder.events.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"event": "lo')
    assert list(run.events()) == lines


def test_what_is_no_run_or_not_finished_is_refused(tmp_path):
    with pytest.raises(BundleError, match="is no run"):
        FinishedRun.open(tmp_path)
    (tmp_path / "recipe.yaml").write_text("data: {source: t.csv, target: y}\n")
    with pytest.raises(InputError, match="never finished"):
        FinishedRun.open(tmp_path)
