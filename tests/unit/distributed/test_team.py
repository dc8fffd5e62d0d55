"""Ranks that something else has started, and started anew: what those before them have written must not be taken for theirs."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import HashStore, TCPStore

from deepseek.distributed import team as team_module
from deepseek.distributed.team import Team, agent_of_this_process, team_of_environment
from deepseek.errors import InputError


@pytest.fixture
def store():
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def meet(store, messages):
    """Let three ranks with connections of their own go through a job; return what each of the others was told."""
    teams = [Team(rank, 3, TCPStore("127.0.0.1", store.port, is_master=False)) for rank in range(3)]

    def lead():
        for message in messages:
            teams[0].tell(message)

    with ThreadPoolExecutor(3) as pool:
        led = pool.submit(lead)
        heard = [pool.submit(lambda team=team: [team.listen() for _ in messages]) for team in teams[1:]]
        led.result(60)
        return [one.result(60) for one in heard]


def test_what_rank_0_tells_reaches_every_rank_in_order(store):
    messages = [{"do": "fit", "run": "a"}, {"do": "end"}]
    assert meet(store, messages) == [messages, messages]


def test_ranks_started_anew_hear_nothing_of_those_before_them(store):
    """The store is the same, with all that stands in it; one of those who asked in it died before it was answered."""
    store.set("deepseek/asks/1", "a word of one that is dead")
    for number in range(3):
        assert meet(store, [{"number": number}]) == [[{"number": number}]] * 2


def test_a_job_of_one_meets_nobody():
    team = Team(0, 1, HashStore())
    team.tell({"do": "end"})
    assert team.leads


def test_those_who_started_the_ranks_are_known_to_rank_0(store, monkeypatch):
    names = iter(["left", "right", "left"])
    monkeypatch.setattr(team_module, "agent_of_this_process", lambda: next(names))
    teams = [Team(rank, 3, TCPStore("127.0.0.1", store.port, is_master=False)) for rank in range(3)]
    with ThreadPoolExecutor(3) as pool:
        words = {one.result(60) for one in [pool.submit(lambda team=team: team.word) for team in teams]}
    assert len(words) == 1
    assert teams[0].agents == {"left", "right"}


def test_what_started_this_process_is_called_alike_until_it_ends(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert not agent_of_this_process()  # a shell, for one, which starts one job after another
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert agent_of_this_process() == agent_of_this_process()
    asked = "from deepseek.distributed.team import agent_of_this_process; print(agent_of_this_process())"
    told = [subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)]
    assert told[0] == told[1]  # this process started both
    assert told[0] != agent_of_this_process()


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setattr(team_module, "_team", None)
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "HOROVOD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_the_only_process_of_torchrun_is_one_of_a_team_too(environment, store):
    """A job that has shrunk to one machine goes on with its run, and does not begin another."""
    environment.setattr(team_module, "rendezvous", lambda _: iter([(store, 0, 1)]))
    environment.setenv("WORLD_SIZE", "1")
    environment.setenv("MASTER_ADDR", "127.0.0.1")
    assert team_of_environment() is None
    environment.setenv("TORCHELASTIC_RUN_ID", "none")
    team = team_of_environment()
    assert team is not None
    assert (team.ranks, team.name) == (1, None)
    assert team.join("cpu", timeout_s=60.0).is_single


def test_ranks_that_nobody_tells_where_to_meet_do_not_train_alone(environment):
    environment.setenv("WORLD_SIZE", "4")
    environment.setenv("RANK", "1")
    with pytest.raises(InputError, match="MASTER_ADDR is not set"):
        team_of_environment()
