from pathlib import Path

import numpy as np
import pytest

from deepseek.pipeline.closed_loop import policy
from deepseek.pipeline.closed_loop.journal import Event, Round
from deepseek.pipeline.closed_loop.policy import WEEK_S, is_of, refusal, share_out, trigger
from deepseek.recipe.sections import OnAlarmSection

RUN = Path("runs/churn/001")
SECTION = OnAlarmSection(cooldown=100.0, max_rounds_per_week=2)


def alarm(seq, name="metric:accuracy", state="raised", model="runs/churn/001/bundle"):
    return seq, {"name": name, "state": state, "model": model, "at": float(seq)}


def ended(number, began, end, state="rejected"):
    return Round(number, (Event(1, began, number, "begun", ""), Event(2, end, number, state, ""), Event(3, end + 50, number, "told", "")))


@pytest.mark.parametrize(
    ("alarms", "found"),
    [
        ([], None),
        ([alarm(1)], 1),
        ([alarm(1), alarm(2, state="repeated")], 2),
        ([alarm(1), alarm(2, state="cleared")], None),
        ([alarm(1), alarm(2, state="cleared"), alarm(3)], 3),
        ([alarm(1, "drift:age")], None),
        ([alarm(1), alarm(2, "drift:age", "cleared")], 1),
        ([alarm(1, model="runs/other/001/bundle")], None),
        ([alarm(1, model="runs/churn/002/bundle")], None),
        ([alarm(1, model="/else/where/runs/churn/001/bundle")], 1),
    ],
)
def test_the_latest_alarm_that_holds_begins_a_round(alarms, found):
    chosen = trigger(alarms, ["metric"], RUN)
    assert (chosen[0] if chosen else None) == found


def test_an_alarm_is_as_old_as_its_first_event():
    seq, event = trigger([alarm(3), alarm(7, state="repeated")], ["metric"], RUN)
    assert (seq, event["at"]) == (7, 3.0)


def test_rows_that_raised_the_alarm_or_judged_before_judge_no_model():
    asked, told = np.arange(6.0), np.array([5.0, 6.0, 9.0, 7.0, 9.0, 9.0])
    never = -np.inf
    assert policy.first_unseen(told, asked, alarm_at=never, judged_until=never) == 0
    assert policy.first_unseen(told, asked, alarm_at=7.0, judged_until=never) == 4  # also a late label among early ones is left out
    assert policy.first_unseen(told, asked, alarm_at=5.0, judged_until=2.0) == 3
    assert policy.first_unseen(told, asked, alarm_at=9.0, judged_until=never) == 6


def test_drift_begins_one_where_the_recipe_says_so():
    assert trigger([alarm(1, "drift:age")], ["metric", "drift"], RUN)[0] == 1


def test_a_bundle_belongs_to_its_run_wherever_it_was_opened_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_of(tmp_path / "runs/churn/001", "runs/churn/001/export/onnx")
    assert not is_of(tmp_path / "runs/churn/001", "runs/churn/0010/bundle")


def test_rounds_rest_and_are_bounded():
    assert refusal([], SECTION, 0.0) is None
    assert "cooldown" in refusal([ended(1, 0.0, 20.0)], SECTION, 119.0)
    assert refusal([ended(1, 0.0, 20.0)], SECTION, 121.0) is None
    two = [ended(1, 0.0, 20.0), ended(2, 200.0, 220.0)]
    assert "max_rounds_per_week 2" in refusal(two, SECTION, 400.0)
    assert refusal(two, SECTION, WEEK_S + 1.0) is None


def test_none_begins_where_the_recipe_says_so():
    assert "none" in refusal([], OnAlarmSection(action="none"), 0.0)


def test_a_model_that_is_better_but_not_surely_is_made_again_of_more_rows_a_few_times():
    assert policy.after_verdict(True, 0.1, 1) == "gated"
    assert policy.after_verdict(False, 0.1, 1) == "unsure"
    assert policy.after_verdict(False, 0.1, policy.TRIES) == "rejected"
    assert policy.after_verdict(False, 0.0, 1) == "rejected"
    assert policy.after_verdict(False, None, 1) == "unsure"  # the rows could not tell
    assert sum(policy.alpha_of(number, 0.05) for number in range(1, policy.TRIES + 1)) < 0.05


def test_a_promoted_model_is_followed_by_one_of_more_rows():
    facts = {"champion": "001", "candidate": "003", "rows": {"train": 300, "test": 100}}
    promoted = Round(1, (Event(1, 0.0, 1, "begun", ""), Event(2, 1.0, 1, "promoted", "", facts)))
    assert not policy.is_due([promoted], "003", 799)
    assert policy.is_due([promoted], "003", 800)
    assert not policy.is_due([promoted], "001", 800)  # it was taken back
    assert not policy.is_due([promoted, ended(2, 5.0, 6.0)], "003", 10_000)  # what followed came to nothing
    assert not policy.is_due([], "001", 10_000)


def test_rows_are_shared_out_by_time():
    parts = share_out(1100, first=100, fresh=0, holdout=0.3, validation=0.2)
    assert (parts.first, parts.validation, parts.holdout, parts.rows) == (100, 660, 800, 1100)
    names = parts.names
    assert len(names) == 1000
    assert names == sorted(names, key=["train", "validation", "test"].index)


def test_rows_that_have_judged_a_model_judge_no_other():
    parts = share_out(1000, first=0, fresh=900, holdout=0.3, validation=0.2)
    assert parts.holdout == 900
    assert share_out(1000, first=0, fresh=960, holdout=0.3, validation=0.2) is None


def test_without_validation_rows_in_the_recipe_some_are_still_chosen_on():
    assert share_out(1000, first=0, fresh=0, holdout=0.3, validation=0.0).names.count("validation") == 105
