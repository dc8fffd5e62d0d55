"""Which run a job of torchrun goes on with after its processes were started anew, and how long ranks wait for each other."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest

import deepseek
from deepseek.artifacts import RunFolder, write_json
from deepseek.errors import InputError
from deepseek.pipeline import ranks
from deepseek.training import TrainSettings


@pytest.fixture
def job(monkeypatch):
    """Let this process be one of a job's: its name, who started it, and the word of its processes."""

    def of(*, name=None, agents=("a",), word="first", restarts=0):
        team = SimpleNamespace(name=name, agents=frozenset(agents), word=word, restarts=restarts)
        monkeypatch.setattr(ranks, "team_of_environment", lambda: team)

    return of


def begin(tmp_path, *, finished=False):
    folder = RunFolder.create(tmp_path, "runs")
    ranks.mark(folder)
    if finished:
        write_json(folder.metrics, {})
    return folder


def found(tmp_path):
    run = ranks.begun_by_this_job(tmp_path / "runs")
    return None if run is None else run.path.name


def test_processes_started_anew_are_known_by_who_started_them_counted_or_not(tmp_path, job):
    """Whichever rank they are now: rank 0 may be on a machine that was not there when the run began."""
    job(agents=("a", "b"))
    begin(tmp_path)
    assert found(tmp_path) is None  # by these very processes
    job(agents=("b", "c"), word="second")
    assert found(tmp_path) == "001"
    ranks.mark(RunFolder(tmp_path / "runs" / "001"))
    job(agents=("c",), word="third")
    assert found(tmp_path) == "001"


def test_another_job_begins_a_run_of_its_own_and_says_what_it_leaves_behind(tmp_path, job, capsys):
    job()
    begin(tmp_path)
    job(agents=("other",), word="second", restarts=1)
    assert found(tmp_path) is None
    told = capsys.readouterr().err
    assert "001 was begun by another job of torchrun and is not finished" in told
    assert "--rdzv-id" in told
    begin(tmp_path, finished=True)
    job(agents=("third",), word="third")
    assert found(tmp_path) is None
    assert "001" not in capsys.readouterr().err  # a newer one is finished


def test_ranks_that_a_script_started_one_after_another_are_no_job(tmp_path, job, capsys):
    job(agents=())
    begin(tmp_path)
    job(agents=(), word="second")
    assert found(tmp_path) is None
    assert not capsys.readouterr().err


def test_a_job_with_a_name_goes_on_with_what_that_name_has_not_finished(tmp_path, job):
    job(name="night", agents=("a",), word="first")
    begin(tmp_path)
    job(name="day", agents=("b",), word="second")
    assert found(tmp_path) is None
    job(name="night", agents=("c",), word="third")
    assert found(tmp_path) == "001"


def test_an_earlier_run_of_that_name_is_not_taken_for_this_ones(tmp_path, job):
    """Restarted before it had begun its own: the one that is finished was another job's."""
    job(name="night", agents=("a",), word="first")
    begin(tmp_path, finished=True)
    job(name="night", agents=("b",), word="second", restarts=1)
    assert found(tmp_path) is None
    job(name="night", agents=("a",), word="third", restarts=1)  # finished, and started anew while the bundle was delivered
    assert found(tmp_path) == "001"


def test_without_a_limit_for_stalls_no_collective_gives_up_either():
    assert ranks.collective_s(TrainSettings(stall_s=600.0)) == 660.0
    assert ranks.collective_s(TrainSettings(stall_s=3.0)) == 300.0
    assert timedelta(seconds=ranks.collective_s(TrainSettings(stall_s=None))) > timedelta(days=30)


@pytest.mark.parametrize(("work", "words"), [("tune", "a search"), ("backtest", "a back-test"), ("suspects", "a search for wrong labels")])
def test_what_trains_several_times_is_not_done_by_every_process_for_itself(monkeypatch, tmp_path, work, words):
    """Two ranks that search each for itself would sum the gradients of two unlike trials."""
    monkeypatch.setattr(ranks, "team_of_environment", lambda: SimpleNamespace(rank=0, ranks=2, leads=True))
    with pytest.raises(InputError, match=f"{words} was started in 2 processes at once") as caught:
        getattr(deepseek, work)({"data": {"source": {"type": "csv", "path": "none.csv"}, "target": "y"}}, out=tmp_path)
    assert "train.devices" in caught.value.hint
    assert not [*tmp_path.iterdir()]


def test_a_rank_that_is_told_what_to_do_begins_no_training_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(ranks, "team_of_environment", lambda: SimpleNamespace(rank=1, ranks=2, leads=False))
    with pytest.raises(InputError, match="a training that is not a run of its own was started in 2 processes"):
        ranks.fit_everywhere(SimpleNamespace(settings=TrainSettings()), home=tmp_path, callbacks=[])
