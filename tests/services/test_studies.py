"""Studies in real databases: shared by processes, resumed, and never telling a password."""

import re
import subprocess
import sys

import pytest

from deepseek.errors import InputError
from deepseek.search import Study

pytest.importorskip("optuna")

WORKER = """
import sys, time
from deepseek.search import Study
def objective(trial):
    time.sleep(0.02)
    return trial.parameters["x"] ** 2
Study({"x": (-1.0, 1.0), "k": [[1], None, "a"]}, trials=12, storage=sys.argv[1], name=sys.argv[2]).run(objective)
"""


@pytest.fixture(params=["postgresql", "mariadb"])
def url(request):
    return request.getfixturevalue(request.param)


def opened(url, name, trials=12):
    return Study({"x": (-1.0, 1.0), "k": [[1], None, "a"]}, trials=trials, storage=url, name=name)


def test_two_processes_finish_exactly_the_trials_of_one_study(url):
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, url, "shared"], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    with opened(url, "shared") as study:
        assert [record.state for record in study.trials] == ["complete"] * 12
        assert study.remaining == 0
        assert study.best.value == min(record.parameters["x"] ** 2 for record in study.trials)


def test_a_study_goes_on_as_it_would_have(url):
    def objective(trial):
        return trial.parameters["x"] ** 2

    with opened(url, "halved", trials=6) as study:
        study.run(objective)
    with opened(url, "halved", trials=12) as study:
        study.run(objective)
        resumed = [(record.parameters, record.value) for record in study.trials]
    whole = Study({"x": (-1.0, 1.0), "k": [[1], None, "a"]}, trials=12)
    whole.run(objective)
    assert [point for point, _ in resumed] == [record.parameters for record in whole.trials]


def test_a_trial_without_signs_of_life_is_put_back(url, monkeypatch):
    monkeypatch.setattr("deepseek.search.engine.GRACE_S", 1)
    monkeypatch.setattr("deepseek.search.study.BEAT_S", 1_000)
    monkeypatch.setattr("deepseek.search.workers.Heartbeat.stop", lambda self: None)
    with opened(url, "elsewhere", trials=2) as study:
        lost = study.ask()
        study._open.clear()
        study._study._storage.set_trial_user_attr(
            study._frozen(lost.number)._trial_id, "deepseek:owner", {"machine": "another", "process": 1, "began": "1"}
        )
        study.run(lambda trial: trial.parameters["x"])
        records = study.trials
    assert [record.state for record in records] == ["lost", "complete", "complete"]
    assert lost.parameters in [record.parameters for record in records[1:]]


def test_passwords_are_neither_shown_nor_saved(url):
    with opened(url, "silent") as study:
        study.run(lambda trial: 0.0)
        assert "secret-word" not in repr(study)
        assert "secret-word" not in str([study._study.user_attrs, *(record for record in study.trials)])
    with pytest.raises(InputError) as refused:
        opened(re.sub(r"secret-word@127.0.0.1:\d+", "secret-wort@127.0.0.1:1", url), "silent")
    assert "secret-wort" not in str(refused.value)
