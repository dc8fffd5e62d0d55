"""Whether a new model in production goes on, waits, or goes back: decisions from plain facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deepseek.pipeline.closed_loop.deployment import DeploymentStatus
from deepseek.recipe.sections import OnAlarmSection

EARLY = 50
"""So many rows a canary answers, however sure it is that it is better: it might fail."""


@dataclass(frozen=True)
class Step:
    """What to do next.

    Attributes:
        do: Go on to the next stage, wait for more rows, go back, or end the round as the stage took too long.
        why: In words.
    """

    do: Literal["go_on", "wait", "go_back", "give_up"]
    why: str


def after_stage(stage: str, status: DeploymentStatus, section: OnAlarmSection, *, candidate: str, waited_s: float) -> Step:
    """Decide how it goes on with a new model in the shadow or canary stage.

    Args:
        stage: `shadow` or `canary`.
        status: How it stands.
        section: The recipe's `monitor.on_alarm`.
        candidate: The name of the new model's run.
        waited_s: Seconds since the stage began.
    """
    if status.current == candidate:
        return Step("go_on", "it was promoted by hand")
    if status.stage == "none" or status.candidate != candidate:
        return Step("go_back", f"the {stage} stage was ended by somebody else")
    if status.failures:
        return Step("go_back", f"it could not answer {status.failures:,} of {status.rows:,} rows")
    if stage == "canary" and status.worse is not None:
        return Step("go_back", status.worse)
    if stage == "canary" and status.better is not None and status.rows >= min(EARLY, section.canary.rows):
        return Step("go_on", status.better)
    rows = section.shadow.rows if stage == "shadow" else section.canary.rows
    outcomes = section.canary.outcomes if stage == "canary" else 0
    met = f"{status.rows:,} of {rows:,} rows" + (f", {status.outcomes:,} of {outcomes:,} labels" if outcomes else "")
    if status.rows >= rows and status.outcomes >= outcomes:
        return Step("go_on", f"{status.rows:,} rows without a failure" + (", and not worse" if stage == "canary" else ""))
    if waited_s > section.max_wait:
        return Step("give_up", f"the {stage} stage met {met} in {section.max_wait:,.0f} s (max_wait)")
    return Step("wait", met)


def stage_after(stage: str, section: OnAlarmSection, *, staged: bool) -> Literal["shadow", "canary", "waiting", "promoted"]:
    """Return the stage that follows; those without rows, or without requests, are left out.

    Args:
        stage: `gated`, `shadow`, `canary`, `waiting` or `approved`.
        section: The recipe's `monitor.on_alarm`.
        staged: Whether there are requests of which a new model can be given a part.
    """
    if staged and stage == "gated" and section.shadow.rows:
        return "shadow"
    if staged and stage in {"gated", "shadow"} and section.canary.rows:
        return "canary"
    return "waiting" if section.promote == "manual" and stage not in {"waiting", "approved"} else "promoted"
