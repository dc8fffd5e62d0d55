"""Single steps of the loop, with a log, a journal and a deployment that are told what to say."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deepseek.monitoring import Store
from deepseek.pipeline.closed_loop.deployment import DeploymentStatus
from deepseek.pipeline.closed_loop.journal import LoopJournal, standing
from deepseek.pipeline.closed_loop.machine import Loop
from deepseek.pipeline.closed_loop.making import Workshop
from deepseek.pipeline.closed_loop.policy import first_unseen
from deepseek.recipe.sections import OnAlarmSection

RUN = Path("/data/runs/churn/001")
RAISED = {"name": "metric:accuracy", "state": "raised", "model": str(RUN / "bundle"), "at": 1000.0, "summary": "it dropped"}


@pytest.fixture
def begun(tmp_path):
    """Begin a round with given events in the log."""

    def begin(*events, now):
        @contextmanager
        def store():
            yield log

        log = SimpleNamespace(
            alarms_after=lambda seq: [(7 + place, event) for place, event in enumerate(events)], counts=lambda: {"outcomes": 0}
        )
        loop = object.__new__(Loop)
        loop.journal, loop._clock, loop.waits_for = LoopJournal(tmp_path / "loop.jsonl"), lambda: 1001.0, ""
        loop.champion = SimpleNamespace(store_name="s", name="001", path=RUN, store=store, then=OnAlarmSection())
        return loop, loop._begin(now=now), log

    return begin


@pytest.mark.parametrize("now", [False, True])
def test_rows_that_raised_an_alarm_judge_no_model_of_a_round_that_was_asked_for_either(begun, now):
    _, event, _ = begun(RAISED, now=now)
    assert (event.facts["alarm"], event.facts["name"], event.facts["alarm_at"]) == (7, "metric:accuracy", 1000.0)
    at = np.arange(1000.0)
    assert first_unseen(at + 0.5, at, alarm_at=event.facts["alarm_at"], judged_until=-np.inf) == 1000


def test_without_an_alarm_all_rows_may_judge(begun):
    loop, event, _ = begun(now=True)
    assert "alarm_at" not in event.facts
    assert begun(now=False)[1] is None
    assert loop.round.state == "begun"


def test_an_alarm_behind_any_number_of_others_begins_a_round(begun, tmp_path):
    loop, _, _ = begun(now=False)
    asked = []
    with Store(tmp_path / "log.db") as log, log.transaction():
        for _ in range(1_200):
            log.save_alarm(1.0, {**RAISED, "name": "drift:age"})

        @contextmanager
        def store():
            yield SimpleNamespace(alarms_after=lambda seq: asked.append(seq) or log.alarms_after(seq), counts=lambda: {"outcomes": 0})

        loop.champion.store = store
        assert loop.tick() is None
        log.save_alarm(2.0, RAISED)
        assert loop.tick().facts["alarm"] == 1_201
    assert asked == [0, 1_200]  # what was read once is not read again


@pytest.mark.parametrize("now", [False, True])
def test_a_round_that_was_asked_for_goes_on_where_its_alarm_is_cleared(begun, now):
    loop, _, log = begun(RAISED, now=now)
    log.alarms_after = lambda seq: [(8, {**RAISED, "state": "cleared"})]
    assert loop._cleared(log, loop.round) is not now


@pytest.mark.parametrize("state", ["begun", "gathered", "training", "trained", "gated", "waiting"])
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_promotion_that_is_taken_back_ends_the_round_that_was_to_follow_it(begun, tmp_path, monkeypatch, state, by_hand):
    """Whatever that round has made was judged by the model that was taken back."""
    loop, _, _ = begun(now=False)
    for name in ("001", "002"):
        (tmp_path / name).mkdir()
    write, loop._workshop = loop.journal.append, Workshop(tmp_path, loop._write)
    write("begun", "", number=1, at=1.0, facts={"champion": "001"})
    write("promoted", "", number=1, at=2.0, facts={"candidate": "002"})
    write("begun", "", number=2, at=3.0, facts={"champion": "002"})
    if state != "begun":
        write(state, "", number=2, at=4.0, facts={"candidate": "003", "run": "003"})
    loop.champion.name, answers = "002", ["002" if by_hand else "001"]

    def rollback():
        answers.append("001")

    loop.deployment = SimpleNamespace(staged=True, status=lambda: DeploymentStatus(answers[-1]), rollback=rollback)
    monkeypatch.setattr(loop, "_open_champion", lambda name: setattr(loop.champion, "name", name))
    event = loop.undo() if by_hand else loop.tick()
    assert (event.state, event.round, loop.champion.name) == ("undone", 1, "001")
    assert [one.state for one in loop.journal.rounds] == ["promoted", "given_up"]
    assert loop.round is None
    assert standing(LoopJournal(loop.journal.path).rounds, "001") == "001"


@pytest.mark.parametrize("rows", [0, 500])
def test_a_shadow_that_loses_a_row_is_rolled_back_with_or_without_a_canary_to_come(begun, rows):
    loop, _, _ = begun(now=True)
    loop.champion.then = OnAlarmSection(canary={"rows": rows})
    loop._workshop, asked = Workshop(RUN.parent, loop._write), []
    found = DeploymentStatus("001", "shadow", "002", rows=200, failures=1)
    loop.deployment = SimpleNamespace(staged=True, status=lambda: found, rollback=lambda: asked.append("rollback"))
    loop.journal.append("shadow", "asked beside", number=1, at=1000.0, facts={"candidate": "002"})
    event = loop.tick()
    assert (event.state, asked) == ("rolled_back", ["rollback"])
    assert event.why == "it could not answer 1 of 200 rows"
