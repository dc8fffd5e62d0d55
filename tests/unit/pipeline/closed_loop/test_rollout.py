import pytest

from deepseek.pipeline.closed_loop.deployment import DeploymentStatus
from deepseek.pipeline.closed_loop.memory_deployment import evidence
from deepseek.pipeline.closed_loop.rollout import after_stage, stage_after
from deepseek.recipe.sections import OnAlarmSection

SECTION = OnAlarmSection(max_wait=1000.0)


def status(stage="canary", candidate="002", current="001", **facts):
    return DeploymentStatus(current, stage, candidate, **facts)


def decided(stage, found, section=SECTION, waited=0.0):
    return after_stage(stage, found, section, candidate="002", waited_s=waited).do


@pytest.mark.parametrize(
    ("stage", "found", "do"),
    [
        ("shadow", status("shadow", rows=199), "wait"),
        ("shadow", status("shadow", rows=200), "go_on"),
        ("shadow", status("shadow", rows=200, failures=1), "go_back"),
        ("shadow", status("shadow", rows=10, worse="of no labels"), "wait"),
        ("canary", status(rows=499), "wait"),
        ("canary", status(rows=500), "go_on"),
        ("canary", status(rows=10, failures=1), "go_back"),
        ("canary", status(rows=9_000, worse="accuracy is lower"), "go_back"),
        ("canary", status(rows=49, better="accuracy is higher"), "wait"),
        ("canary", status(rows=50, better="accuracy is higher"), "go_on"),
        ("canary", status("none", None), "go_back"),
        ("canary", status(candidate="007"), "go_back"),
        ("canary", status("none", None, current="002"), "go_on"),
    ],
)
def test_what_follows_a_stage(stage, found, do):
    assert decided(stage, found) == do


def test_a_canary_may_wait_for_labels_as_well():
    section = OnAlarmSection(canary={"rows": 100, "outcomes": 50})
    assert decided("canary", status(rows=300, outcomes=49), section) == "wait"
    assert decided("canary", status(rows=300, outcomes=50), section) == "go_on"


def test_a_stage_does_not_wait_for_ever():
    assert decided("canary", status(rows=3), waited=999.0) == "wait"
    assert decided("canary", status(rows=3), waited=1001.0) == "give_up"


@pytest.mark.parametrize("canary", [{"rows": 0}, {"rows": 500}])
def test_rows_that_a_shadow_did_not_answer_take_it_back_whatever_would_follow(canary):
    section = OnAlarmSection(canary=canary)
    assert decided("shadow", status("shadow", rows=5_000, failures=1, better="accuracy is higher"), section) == "go_back"
    assert decided("shadow", status("shadow", rows=3, failures=3), section, waited=1001.0) == "go_back"
    assert decided("shadow", status("shadow", rows=200), section) == "go_on"
    assert stage_after("shadow", section, staged=True) == ("canary" if canary["rows"] else "promoted")


def test_the_stages_in_order():
    road = ["gated"]
    while road[-1] != "promoted":
        road.append(stage_after(road[-1], SECTION, staged=True))
    assert road == ["gated", "shadow", "canary", "promoted"]


@pytest.mark.parametrize(
    ("section", "staged", "first"),
    [
        ({}, False, "promoted"),
        ({"promote": "manual"}, False, "waiting"),
        ({"shadow": {"rows": 0}}, True, "canary"),
        ({"shadow": {"rows": 0}, "canary": {"rows": 0}}, True, "promoted"),
    ],
)
def test_stages_without_rows_or_requests_are_left_out(section, staged, first):
    assert stage_after("gated", OnAlarmSection(**section), staged=staged) == first


def test_what_was_approved_is_deployed():
    manual = OnAlarmSection(promote="manual")
    assert stage_after("canary", manual, staged=True) == "waiting"
    assert stage_after("approved", manual, staged=True) == "promoted"


def test_evidence_is_small_where_both_are_equally_good_and_large_where_they_are_not():
    assert evidence(0, 0) == 1.0
    assert evidence(50, 50) < 1
    assert evidence(0, 10) > 20
    assert evidence(10, 0) == evidence(0, 10)
