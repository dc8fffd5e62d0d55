"""A search over a recipe, from its first trial to a recipe that repeats the best one."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import deepseek
from deepseek.cli import main
from deepseek.errors import InputError, RunError, UnknownNameError
from deepseek.recipe import load_recipe
from deepseek.search import Study
from deepseek.tuning.folder import TuneFolder

pytest.importorskip("optuna")
RECIPE = """
data: {source: points.csv, target: y}
model: {type: mlp, width: 16, dropout: 0.0}
train: {epochs: 4, precision: fp32, batch_size: 64}
tune:
  trials: 8
  pruner: {type: median, startup: 2}
  search: random
  over:
    train.learning_rate: [1.0e-4, 1.0e-1]
    model.width: [8, 16, 32]
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 4)).round(4)
    y = x[:, 0] * x[:, 1] + 0.3 * random.normal(size=300) > 0
    rows = [",".join([*map(str, row), "yes" if truth else "no"]) for row, truth in zip(x, y, strict=True)]
    Path("points.csv").write_text("\n".join(["a,b,c,d,y", *rows]) + "\n")
    Path("points.yaml").write_text(RECIPE)
    return tmp_path / "points.yaml"


def table(result):
    return [(row.number, row.state, row.value, dict(row.parameters), row.steps) for row in result.facts.trials]


def measured_splits(monkeypatch):
    """Note which rows anything is measured on."""
    seen, modules = [], [importlib.import_module(f"deepseek.pipeline.{name}") for name in ("fitting", "trial")]
    original = modules[0].measure

    def measure(model, rows, ranks):
        seen.append(len(rows))
        return original(model, rows, ranks)

    for module in modules:
        monkeypatch.setattr(module, "measure", measure)
    return seen


def test_a_search_finds_something_better_and_its_recipe_repeats_it(recipe, monkeypatch):
    seen = measured_splits(monkeypatch)
    result = deepseek.tune(recipe, overrides=["data.split={train: 60, validation: 25, test: 15}"])
    folder, facts = TuneFolder(result.folder), result.facts
    assert result.folder == Path("runs/points/tune-001")
    assert [row.number for row in facts.trials] == list(range(8))
    assert facts.trials[0].parameters == {}
    assert facts.gain > 0.05
    assert seen == [75] * 8 + [45]  # validation rows of every trial; test rows once, at the end
    whole = max(row.steps for row in facts.trials)
    assert all(row.steps < whole for row in facts.trials if row.state == "pruned")
    assert "pruned" in {row.state for row in facts.trials}
    assert [json.loads(line)["number"] for line in folder.rows.read_text().splitlines()] == list(range(8))
    assert json.loads(folder.facts.read_text())["best"]["number"] == facts.best.number
    assert "Trial by trial" in folder.page.read_text()
    bundles = [path.parent.name for path in (folder.path / "trials").glob("*/bundle")]
    assert bundles == [f"{facts.best.number:03d}"]
    assert (folder.trial(facts.best.number) / "events.jsonl").is_file()
    assert len(deepseek.load(result.bundle).predict({"a": [1.0], "b": [1.0], "c": [0.0], "d": [0.0]})) == 1
    assert load_recipe(result.recipe).tune is None
    run = deepseek.run(result.recipe)
    assert run.metrics == dict(facts.metrics)
    assert run.metrics["validation"][facts.metric] == facts.best.value


def test_data_are_prepared_once(recipe, monkeypatch):
    module = importlib.import_module("deepseek.pipeline.preparing.dataset")
    prepared, original = [], module.prepare
    monkeypatch.setattr(module, "prepare", lambda *given, **named: (prepared.append(1), original(*given, **named))[1])
    deepseek.tune(recipe, trials=3)
    assert len(prepared) == 3  # training, validation and test rows
    Path("points.yaml").write_text(RECIPE.replace("model.width: [8, 16, 32]", "data.transforms.number.scaling: [robust, min_max]"))
    deepseek.tune(recipe, trials=3, overrides=["data.transforms={number: number}"])
    assert len(prepared) > 6


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(recipe):
    result = deepseek.tune(recipe, trials=5, overrides=["tune.over={train.learning_rate: [1.0e+30, 0.01, 3.0e+30]}", "tune.search=grid"])
    failed = [row for row in result.facts.trials if row.state == "failed"]
    assert failed
    assert all("NonFiniteError" in row.error for row in failed)
    assert result.facts.best.state == "complete"
    assert "NonFiniteError" in (result.folder / "trials.jsonl").read_text()


def kept_bundles(result):
    return {path.parent.name for path in result.folder.glob("trials/*/bundle")}


def test_of_losers_nothing_may_stay_but_the_recipe_as_it_was(recipe):
    result = deepseek.tune(recipe, trials=3, overrides=["tune.keep=nothing"])
    best = f"{result.facts.best.number:03d}"
    assert {path.name for path in (result.folder / "trials").iterdir()} == {"000", best}
    assert kept_bundles(result) == {best}


def test_everything_may_stay_and_every_trial_may_have_a_seed_of_its_own(recipe):
    result = deepseek.tune(recipe, trials=3, overrides=["tune.vary_seed=true", "tune.keep=everything"])
    assert kept_bundles(result) == {"000", "001", "002"}
    seeds = [load_recipe(f"runs/points/tune-001/trials/00{number}/recipe.yaml").train.seed for number in range(3)]
    assert seeds[0] is None
    assert len(set(seeds)) == 3


def test_a_search_goes_on_to_exactly_its_number_as_one_that_was_never_left(recipe):
    short = deepseek.tune(recipe, trials=2)
    longer = deepseek.tune(recipe, trials=4, resume=True)
    assert longer.folder == short.folder
    assert table(longer)[:2] == table(short)
    assert table(deepseek.tune(short.folder, resume=True)) == table(longer)
    whole = deepseek.tune(recipe, trials=4)
    assert whole.folder != short.folder
    assert table(whole) == table(longer)
    other = deepseek.tune(recipe, trials=2, overrides=["tune.seed=1"])
    assert table(other)[0] == table(short)[0]
    assert table(other)[1] != table(short)[1]
    with pytest.raises(InputError, match="another recipe"):
        deepseek.tune(recipe, resume=True, overrides=["train.epochs=5"])
    with pytest.raises(InputError, match="a search already"):
        deepseek.tune(short.folder)


def test_a_search_does_not_go_on_with_other_data(recipe):
    deepseek.tune(recipe, trials=2)
    rows = Path("points.csv").read_text().splitlines()
    Path("points.csv").write_text("\n".join([rows[0], *rows[20:]]) + "\n")
    with pytest.raises(InputError, match=r"the data changed since .*tune-001 began"):
        deepseek.tune(recipe, trials=3, resume=True)


def test_a_trial_without_a_value_has_failed_and_the_default_is_tried_again(recipe, monkeypatch):
    module = importlib.import_module("deepseek.pipeline.trial")
    follow = module.follow

    def nowhere(given, dataset, run, **named):
        follow(given, dataset, run, **named)
        outcome = json.loads(run.metrics.read_text())
        outcome["metrics"]["validation"]["auc"] = float("nan")  # as where validation rows are of one class
        run.metrics.write_text(json.dumps(outcome))

    monkeypatch.setattr(module, "follow", nowhere)
    chosen = ["tune.metric=auc"]
    with pytest.raises(RunError, match="no trial came to its end") as told:
        deepseek.tune(recipe, trials=1, overrides=chosen)
    assert "auc is nan on the validation rows" in told.value.hint
    monkeypatch.setattr(module, "follow", follow)
    again = deepseek.tune(recipe, trials=1, overrides=chosen, resume=True)
    assert [(row.number, row.state) for row in again.facts.trials] == [(0, "complete")]
    assert again.folder.name == "tune-001"


def test_what_cannot_be_is_told_before_anything_runs(recipe):
    with pytest.raises(InputError, match="section 'tune'"):
        deepseek.run(recipe)
    with pytest.raises(UnknownNameError, match="metric to tune for"):
        deepseek.tune(recipe, overrides=["tune.metric=log_los"])
    with pytest.raises(InputError, match="no validation rows"):
        deepseek.tune(recipe, overrides=["data.split={train: 80, validation: 0, test: 20}"])
    with pytest.raises(InputError, match="learning_rte"):
        deepseek.tune(recipe, overrides=["tune.over={train.learning_rte: [0.1, 0.2]}"])
    assert not list(Path("runs").glob("points*"))


def test_another_metric_turns_the_direction(recipe):
    result = deepseek.tune(recipe, trials=2, overrides=["tune.metric=auc"])
    assert result.facts.direction == "maximize"
    assert result.facts.best.value == max(row.value for row in result.facts.trials if row.state == "complete")


def test_a_bare_table_gets_a_space_of_its_own_and_the_command_line_prints_it(recipe, capsys):
    given = ["tune", "points.csv", "--target", "y", "--trials", "2", "--set", "train.max_steps=4", "--set", "train.precision=fp32"]
    assert main(given) == 0
    printed = capsys.readouterr()
    assert "trial   0  complete" in printed.err
    assert "the recipe as it is" in printed.err
    assert "train.learning_rate=" in printed.err
    assert "best" in printed.out
    assert main([*given, "--resume", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["trials"][0]["parameters"] == {}
    assert {"train.learning_rate", "train.optimizer.weight_decay", "model.dropout"} <= set(value["space"])


def test_workers_end_with_their_search_and_what_they_had_under_way_is_done_again(recipe):
    """Two workers whose parent is ended while they train: they end at once, and the search comes to what it would have come to."""
    said = ["train.epochs=40", "train.early_stopping=false", "tune.pruner=none", "tune.trials=4", "tune.vary_seed=true"]
    program = f"deepseek.tune({str(recipe)!r}, workers=2, overrides={said})"
    Path("search.py").write_text(f"import deepseek\nif __name__ == '__main__':\n    {program}\n")
    with subprocess.Popen([sys.executable, "search.py"], stderr=subprocess.DEVNULL) as process:
        events = Path("runs/points/tune-001/trials")
        while len(list(events.glob("*/events.jsonl"))) < 3:
            time.sleep(0.02)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    done = len(Path("runs/points/tune-001/trials.jsonl").read_text().splitlines())
    assert done < 4
    result = deepseek.tune(recipe, resume=True, overrides=said)
    assert {row.state for row in result.facts.trials} == {"complete"}
    assert {path.name for path in events.iterdir()} == {f"{row.number:03d}" for row in result.facts.trials}  # nothing of lost ones
    alone = deepseek.tune(recipe, overrides=said)
    assert sorted(row[2:] for row in table(result)) == sorted(row[2:] for row in table(alone))


def test_a_trial_whose_worker_died_before_it_was_on_record_has_cost_no_other_its_model(recipe, monkeypatch):
    """The best trial is lost after it was trained and before the study knew of it; without time for another, the default is the best."""

    def die(study, trial, value=None, **_):
        raise KeyboardInterrupt

    said = ["tune.trials=2", "tune.search=grid", "tune.over={train.learning_rate: [0.05, 0.06]}"]
    with monkeypatch.context() as patch:
        patch.setattr(Study, "tell", die)
        with pytest.raises(KeyboardInterrupt):
            deepseek.tune(recipe, overrides=said)
    result = deepseek.tune(recipe, resume=True, overrides=[*said, "tune.time_limit=1e-9"])
    assert result.facts.best.number == 0
    assert len(result.facts.trials) == 1


def test_ctrl_c_that_python_loses_ends_the_search_before_its_next_trial(recipe):
    """Python drops what a finalizer raises: here the exception of Ctrl-C, during trial 1, in a process of its own."""
    code = f"""
        import contextlib, importlib, os, signal, sys, time
        import deepseek
        module = importlib.import_module("deepseek.pipeline.tune")
        run = module.TrialRunner.run
        def pressed(runner, number, *given, **named):
            if number == 1:
                with contextlib.suppress(KeyboardInterrupt):
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(1)
            return run(runner, number, *given, **named)
        module.TrialRunner.run = pressed
        try:
            deepseek.tune({str(recipe)!r}, trials=3)
        except KeyboardInterrupt:
            sys.exit(3 if signal.getsignal(signal.SIGINT) is signal.default_int_handler else 4)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, capture_output=True).returncode == 3
    assert len(Path("runs/points/tune-001/trials.jsonl").read_text().splitlines()) == 2
