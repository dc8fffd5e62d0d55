import json
import os

import pytest

from deepseek.errors import RunError
from deepseek.pipeline.closed_loop.journal import LoopJournal, standing, untold


@pytest.fixture
def journal(tmp_path):
    return LoopJournal(tmp_path / "runs" / "loop.jsonl")


def told(journal, *states, number=1, **facts):
    for place, state in enumerate(states):
        journal.append(state, f"why {state}", number=number, at=100.0 * number + place, facts=facts)


def test_what_was_written_is_read_back(journal):
    told(journal, "begun", "gathered", alarm=7)
    journal.append("trained", "größer", number=1, at=3.5, facts={"candidate": "002"})
    again = LoopJournal(journal.path)
    assert again.events == journal.events
    assert [event.seq for event in again.events] == [1, 2, 3]
    (one,) = again.rounds
    assert (one.state, one.ended, one.began_at, one.since) == ("trained", False, 100.0, 3.5)
    assert (one.fact("alarm"), one.fact("candidate"), one.fact("nothing", 0)) == (7, "002", 0)
    assert json.loads(journal.path.read_text().splitlines()[2])["why"] == "größer"


def test_every_line_is_on_disk_before_the_next_step(journal, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    told(journal, "begun", "gathered")
    assert len(synced) == 2


def test_a_line_that_a_kill_cut_off_is_taken_away(journal):
    told(journal, "begun", "gathered")
    with journal.path.open("a") as file:
        file.write('{"seq": 3, "at": 1.0, "rou')
    before = journal.path.read_bytes()
    again = LoopJournal(journal.path)
    assert [event.state for event in again.events] == ["begun", "gathered"]
    assert journal.path.read_bytes() == before  # who only looks may meet a line that is being written
    told(again, "training")
    assert [event.state for event in LoopJournal(journal.path).events] == ["begun", "gathered", "training"]


def test_what_is_no_line_is_not_passed_over(journal):
    told(journal, "begun")
    with journal.path.open("a") as file:
        file.write("something else\n")
    with pytest.raises(RunError, match="not as the loop wrote it"):
        LoopJournal(journal.path)


def test_notes_change_no_state(journal):
    told(journal, "begun", "promoted", "told", "undone", up_to=2)
    assert journal.rounds[0].state == "promoted"
    assert journal.rounds[0].ended


def test_the_run_that_stands_follows_promotions_and_what_was_taken_back(journal):
    told(journal, "begun", "promoted", number=1, champion="001", candidate="003")
    told(journal, "begun", "rejected", number=2, champion="003", candidate="004")
    told(journal, "begun", "promoted", number=3, champion="003", candidate="006")
    assert standing(journal.rounds, "001") == "006"
    assert standing(journal.rounds, "003") == "006"
    assert standing(journal.rounds, "009") == "009"  # a run that the loop knows nothing of
    told(journal, "undone", number=3)
    assert standing(journal.rounds, "001") == "003"


def test_ends_are_told_once(journal):
    told(journal, "begun", "gathered", "rejected")
    assert [event.state for event in untold(journal.events)] == ["rejected"]
    journal.append("told", "", number=1, at=9.0, facts={"up_to": 3})
    assert untold(journal.events) == []
    told(journal, "begun", "waiting", number=2)
    assert [event.state for event in untold(journal.events)] == ["waiting"]
