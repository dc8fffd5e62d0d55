import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from deepseek.errors import InputError, MissingExtraError, RunError
from deepseek.search import Study, TrialRecord
from deepseek.search.engine import shown_storage
from deepseek.search.workers import is_dead, this_worker

pytest.importorskip("optuna")

X = {"x": (-1.0, 1.0)}
WORKER = """
import sys, time
from deepseek.search import Study
def objective(trial):
    time.sleep(float(sys.argv[2]))
    return trial.parameters["x"] ** 2
Study({"x": (-1.0, 1.0)}, trials=8, storage=sys.argv[1]).run(objective)
"""


def square(trial):
    return trial.parameters["x"] ** 2


def states(study):
    return [record.state for record in study.trials]


def test_run_ends_with_exactly_the_trials_and_returns_the_best():
    study = Study(X, trials=7, search="random")
    best = study.run(square)
    assert states(study) == ["complete"] * 7
    assert best.value == min(record.value for record in study.trials)
    assert study.best == best
    assert study.remaining == 0
    assert study.run(square) == best


def test_maximize_takes_the_largest():
    study = Study(X, trials=7, search="random", direction="maximize")
    assert study.run(square).value == max(record.value for record in study.trials)


def test_ask_and_tell_by_hand():
    study = Study(X, trials=2, search="random")
    while (trial := study.ask()) is not None:
        trial.note("run", {"path": "runs/a"})
        record = study.tell(trial, square(trial))
        assert isinstance(record, TrialRecord)
        assert record.notes == {"run": {"path": "runs/a"}}
        assert record.seconds >= 0
    assert states(study) == ["complete"] * 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "good"])
def test_what_is_no_number_fails_the_trial(value):
    study = Study(X, trials=3, search="random")
    study.run(lambda trial: value if trial.number == 1 else 0.0)
    assert states(study) == ["complete", "failed", "complete"]
    assert repr(value) in study.trials[1].error


def test_a_failed_trial_is_recorded_and_does_not_end_the_study():
    def objective(trial):
        if trial.number % 2:
            raise ValueError(f"no {trial.number}")
        return 0.0

    study = Study(X, trials=6, search="random")
    study.run(objective, max_failures=2)
    assert states(study) == ["complete", "failed"] * 3
    assert study.trials[3].error == "ValueError: no 3"


def test_failures_one_after_the_other_end_it_and_the_last_is_the_cause():
    def objective(trial):
        raise ValueError("always")

    study = Study(X, trials=6, search="random")
    with pytest.raises(RunError, match="2 trials failed one after the other, the last with ValueError: always") as stopped:
        study.run(objective, max_failures=2)
    assert isinstance(stopped.value.__cause__, ValueError)
    assert states(study) == ["failed"] * 2
    with pytest.raises(RunError, match=r"no trial .* is complete") as none:
        study.best  # noqa: B018
    assert "ValueError: always" in str(none.value)


def test_no_trial_begins_after_the_time_limit():
    study = Study(X, trials=1_000, search="random")
    study.run(lambda trial: time.sleep(0.02) or 0.0, time_limit_s=0.2)
    assert 0 < len(study.trials) < 30


def test_the_budget_may_be_raised_later(tmp_path):
    with Study(X, trials=3, storage=tmp_path / "s.db") as study:
        study.run(square)
    with Study(X, trials=5, storage=tmp_path / "s.db") as study:
        assert study.remaining == 2
        study.run(square)
        assert len(study.trials) == 5


@pytest.mark.parametrize(
    ("key", "other"),
    [("space", {"x": (-1.0, 2.0)}), ("direction", "maximize"), ("search", "random"), ("pruner", "median"), ("seed", 1)],
)
def test_a_study_is_not_taken_up_with_other_settings(tmp_path, key, other):
    Study(X, trials=3, storage=tmp_path / "s.db").close()
    settings = {"space": X} | {key: other}
    with pytest.raises(InputError, match=f"has the {key} "):
        Study(settings.pop("space"), trials=3, storage=tmp_path / "s.db", **settings)


def test_a_foreign_study_is_refused(tmp_path):
    import optuna

    foreign = optuna.create_study(storage=f"sqlite:///{tmp_path / 's.db'}", study_name="study")
    foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(InputError, match="was not made here"):
        Study(X, trials=3, storage=tmp_path / "s.db")


def test_two_processes_share_one_file_and_finish_exactly_its_trials(tmp_path):
    command = [sys.executable, "-c", WORKER, str(tmp_path / "s.db"), "0.05"]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [worker.communicate(timeout=60)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    with Study(X, trials=8, storage=tmp_path / "s.db") as study:
        assert states(study) == ["complete"] * 8


def test_surplus_trials_are_withdrawn_when_others_were_faster(tmp_path):
    first, second = (Study(X, trials=1, storage=tmp_path / "s.db") for _ in range(2))
    ask = first._study.ask

    def late(distributions):
        second.run(square)
        return ask(distributions)

    first._study.ask = late
    assert first.ask() is None
    assert states(first) == ["complete"]


def test_a_killed_workers_trial_is_put_back_at_once(tmp_path):
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path / "s.db"), "60"])
    with Study(X, trials=8, storage=tmp_path / "s.db") as study:
        while not any(record.state == "running" and study._study.trials[0].user_attrs for record in study.trials):
            time.sleep(0.05)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        study.run(square)
        assert states(study) == ["lost"] + ["complete"] * 8
        assert study.trials[1].parameters == study.trials[0].parameters
        whole = Study(X, trials=8)
        whole.run(square)
        assert [record.parameters for record in study.trials[1:]] == [record.parameters for record in whole.trials]


def test_a_trial_that_waits_is_taken_by_one_worker(tmp_path, monkeypatch):
    """SQLite locks no rows: with a pause between looking and taking, both workers would take it."""
    from optuna.storages._rdb.models import TrialModel

    with Study(X, trials=2, storage=tmp_path / "s.db") as study:
        study.ask()
    workers = [Study(X, trials=2, storage=tmp_path / "s.db") for _ in range(2)]
    find = TrialModel.find_or_raise_by_id

    def slowly(*given, **named):
        found = find(*given, **named)
        time.sleep(0.1)
        return found

    monkeypatch.setattr(TrialModel, "find_or_raise_by_id", slowly)
    with ThreadPoolExecutor() as threads:
        taken = list(threads.map(lambda worker: worker.ask(), workers))
    assert {trial.number for trial in taken} == {1, 2}
    assert {trial.place for trial in taken} == {0, 1}


def test_a_trial_that_kills_every_worker_fails_at_last(tmp_path):
    with Study(X, trials=2, storage=tmp_path / "s.db") as study:
        for _ in range(3):
            trial = study.ask()
            assert trial.place == 0
            study._requeue(study._frozen(trial.number), died=True)
        study.run(square)
        assert states(study) == ["lost", "lost", "failed", "complete"]
        assert "3 workers died" in study.trials[2].error


def test_run_waits_for_what_another_worker_has_under_way(tmp_path):
    mine, other = (Study(X, trials=2, storage=tmp_path / "s.db") for _ in range(2))
    trial = other.ask()
    threading.Timer(0.3, lambda: other.tell(trial, -1.0)).start()
    assert mine.run(square).value == -1.0


def test_a_result_that_comes_after_the_trial_was_given_up_changes_nothing(tmp_path):
    with Study(X, trials=1, storage=tmp_path / "s.db") as study:
        trial = study.ask()
        study._requeue(study._frozen(trial.number))
        assert study.tell(trial, 0.0).state == "lost"
        assert study.tell(trial, error="late").state == "lost"
        study.run(square)
        assert states(study) == ["lost", "complete"]


def test_closing_gives_back_what_was_asked_for(tmp_path):
    with Study(X, trials=2, storage=tmp_path / "s.db") as study:
        point = study.ask().parameters
    with Study(X, trials=2, storage=tmp_path / "s.db") as study:
        assert states(study) == ["lost", "waiting"]
        assert study.trials[1].parameters == point


@pytest.mark.parametrize(("pruner", "pruned"), [("none", 0), ({"type": "median", "startup": 1}, 3), ({"type": "asha", "reduction": 2}, 3)])
def test_pruners_give_up_what_promises_too_little(pruner, pruned):
    def objective(trial):
        for step in range(1, 5):
            if trial.report(float(trial.number), step=step):
                return None
        return float(trial.number)

    study = Study(X, trials=4, search="random", pruner=pruner)
    study.run(objective)
    assert states(study).count("pruned") == pruned
    if pruned:
        last = study.trials[-1]
        assert (last.state, last.value, last.reported) == ("pruned", 3.0, {1: 3.0})
        assert study.best.number == 0


def test_importance_finds_what_matters_and_says_when_it_cannot():
    study = Study({"x": (-1.0, 1.0), "y": (-1.0, 1.0)}, trials=60, search="random")
    study.run(square)
    importance = study.importance()
    assert list(importance) == ["x", "y"]
    assert importance["x"] > 0.8
    assert sum(importance.values()) == pytest.approx(1)
    with pytest.raises(RunError, match="0 trials are complete"):
        Study(X, trials=1).importance()


def test_optuna_neither_writes_nor_warns(tmp_path, caplog, capsys):
    level = logging.getLogger("optuna").level
    with warnings.catch_warnings(), Study(X, trials=2, storage=tmp_path / "s.db") as study:
        warnings.simplefilter("error")
        study.run(square)
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger("optuna").level == level


def test_wrong_settings_are_named():
    for wrong in ({"trials": 0}, {"trials": 1, "direction": "up"}):
        with pytest.raises(InputError, match="at least 1 trial"):
            Study(X, **wrong)
    with pytest.raises(InputError, match="did you mean 'random'"):
        Study(X, trials=1, search="randm")


def test_storages_that_cannot_be_opened_are_named_without_their_passwords():
    url = "postgresql://me:secret-word@127.0.0.1:1/studies?sslpassword=secret-word"
    assert shown_storage(url) == "postgresql://me:***@127.0.0.1:1/studies"
    for wrong in (url, "nonsense://me:secret-word@host/x"):
        with pytest.raises(InputError, match=r"me:\*\*\*") as refused:
            Study(X, trials=1, storage=wrong)
        assert "secret-word" not in f"{refused.value} {refused.value!r}"


def test_a_missing_driver_shows_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match="'psycopg'"):
        Study(X, trials=1, storage="postgresql://me@127.0.0.1:1/studies")


def test_a_worker_is_dead_when_its_process_is_another():
    me = this_worker()
    assert json.loads(json.dumps(me)) == me
    assert not is_dead(me)
    assert not is_dead(me | {"machine": "another", "began": "1"})
    if me["began"] != "unknown":
        assert is_dead(me | {"began": "1"})
