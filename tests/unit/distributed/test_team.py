"""Ranks that something else has started, and started anew: what those before them have written must not be taken for theirs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import HashStore, TCPStore

from deepseek.distributed.team import Team


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
