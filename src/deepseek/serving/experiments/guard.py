"""When a challenger is taken out by itself: where it is surely worse than was agreed, at whatever moment one looks."""

from __future__ import annotations

import math
from typing import NamedTuple

from deepseek.serving.experiments.counts import ArmCounts, Counts
from deepseek.serving.experiments.settings import Experiment
from deepseek.serving.experiments.verdict import difference, enough
from deepseek.statistics.anytime import above_evidence, below_evidence

_SLOW = 0.01


class Stop(NamedTuple):
    """That an arm is to be taken out, and why."""

    arm: str
    why: str


def reason_to_stop(experiment: Experiment, counts: Counts) -> Stop | None:
    """Return which arm is to be taken out and why, or nothing.

    Args:
        experiment: The experiment; one without a guard stops nothing.
        counts: What was counted.
    """
    guard = experiment.settings.guard
    if guard is None or not experiment.running:
        return None
    sure = math.log(1 / experiment.settings.alpha)
    for number, arm in enumerate(experiment.arms[1:], start=1):
        if arm.role != "challenger" or not arm.share:
            continue
        found = counts.arms[number]
        failures, requests = found.told.failures, found.told.requests
        if guard.failures is not None and above_evidence(failures, requests, limit=guard.failures) >= sure:
            return Stop(arm.name, f"it failed {failures:,} of {requests:,} requests, more than {guard.failures:.0%}")
        if guard.latency is not None and (why := _slow(found, counts.arms[0], guard.latency, experiment.settings.alpha)):
            return Stop(arm.name, why)
        if guard.metric is not None and (why := _worse(experiment, counts, number, guard.metric)):
            return Stop(arm.name, why)
    return None


def _slow(arm: ArmCounts, champion: ArmCounts, times: float, alpha: float) -> str | None:
    """Return why an arm is too slow, or nothing: half of `alpha` is spent on what the champion's p99 is at most, half on the arm."""
    sure = math.log(2 / alpha)
    usual = champion.least(lambda slower, known: below_evidence(slower, known, limit=_SLOW) >= sure)
    if usual is None or above_evidence(arm.slower_than(times * usual), arm.seconds.known, limit=_SLOW) < sure:
        return None
    own = arm.quantile(1 - _SLOW) or math.nan
    return f"its p99 is {own * 1000:,.1f} ms, more than {times:g} times the champion's, which is at most {usual * 1000:,.1f} ms"


def _worse(experiment: Experiment, counts: Counts, number: int, margin: float) -> str | None:
    if not enough(experiment, counts.arms[number]):
        return None
    found = difference(experiment, counts, number).anytime
    worst = -found.high if experiment.higher_is_better else found.low
    return f"its {experiment.metric} is worse by {abs(found.value):.4g} [{found.low:.4g}, {found.high:.4g}]" if worst > margin else None
