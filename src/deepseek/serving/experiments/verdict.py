"""What an experiment has found, as numbers and as one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from deepseek.serving.experiments.counts import ArmCounts, Counts
from deepseek.serving.experiments.settings import Arm, Experiment
from deepseek.statistics.anytime import multinomial_evidence
from deepseek.statistics.arms import ArmDifference, arm_interval, compare_arms, rows_to_see
from deepseek.statistics.intervals import Interval

LEAST_KEYS = 30
"""So many keys each arm must have before anything is said: of fewer no variance is known."""
OFF = 0.001
"""Probability of ever saying that the sample ratio is off where it is not."""
_SHARE_EFFECT = 0.02
_SPREAD_EFFECT = 0.1
_SHARES = {"accuracy", "error_rate"}


def results(experiment: Experiment, counts: Counts) -> dict[str, Any]:
    """Return everything that was found, as plain JSON values.

    Args:
        experiment: The experiment.
        counts: What was counted.
    """
    arms = {arm.name: _arm(experiment, counts, number) for number, arm in enumerate(experiment.arms)}
    ratio = _ratio(experiment, counts)
    compared = {arm.name: _comparison(experiment, counts, number, ratio) for number, arm in enumerate(experiment.arms) if number}
    return {
        "experiment": experiment.id,
        "metric": experiment.metric,
        "higher_is_better": experiment.higher_is_better,
        "arms": arms,
        "comparisons": compared,
        "sample_ratio": ratio,
        "outcomes": {"told": counts.outcomes, "told_again": counts.again},
        "verdict": " ".join(part["verdict"] for part in compared.values()),
    }


def enough(experiment: Experiment, arm: ArmCounts) -> bool:
    """Whether an arm and what it is compared with have outcomes enough for anything to be said.

    Args:
        experiment: The experiment.
        arm: The arm.
    """
    least = experiment.settings.min_outcomes
    return min(arm.own.rows, arm.against.rows) >= least and min(arm.own.keys, arm.against.keys) >= min(LEAST_KEYS, least)


def difference(experiment: Experiment, counts: Counts, number: int) -> ArmDifference:
    """Return how far an arm is above the champion; several arms share `alpha`.

    Args:
        experiment: The experiment.
        counts: What was counted.
        number: The arm's number.
    """
    settings, arm, spread = experiment.settings, counts.arms[number], float(experiment.metric in _SHARES)
    alpha = settings.alpha / len(experiment.others)
    return compare_arms(arm.against, arm.own, planned=settings.planned_outcomes, alpha=alpha, spread=spread)


def suspicion(experiment: Experiment, counts: Counts) -> float:
    """Return the evidence that keys were not divided as they should have been, added up over phases.

    Args:
        experiment: The experiment.
        counts: What was counted.
    """
    evidence = 0.0
    for number, phase in enumerate(experiment.phases):
        shares = {place: phase.shares[arm.name] for place, arm in enumerate(experiment.arms)}
        wanted = {place: share for place, share in shares.items() if share}
        if len(wanted) > 1:
            seen = [counts.keys.get((number, place), 0) for place in wanted]
            evidence += multinomial_evidence(seen, [float(share) for share in wanted.values()])
    return evidence


def _ratio(experiment: Experiment, counts: Counts) -> dict[str, Any]:
    """Return how keys were divided, and whether that can be chance."""
    seen, expected = dict.fromkeys((arm.name for arm in experiment.arms), 0), dict.fromkeys((arm.name for arm in experiment.arms), 0.0)
    for number, phase in enumerate(experiment.phases):
        total = sum(count for (at, _), count in counts.keys.items() if at == number)
        for place, arm in enumerate(experiment.arms):
            seen[arm.name] += counts.keys.get((number, place), 0)
            expected[arm.name] += total * (phase.shares[arm.name] or 0.0)
    p = math.exp(-max(counts.suspicion, 0.0))
    return {"keys": seen, "expected": {name: round(value, 1) for name, value in expected.items()}, "p": p, "off": p < OFF}


def _arm(experiment: Experiment, counts: Counts, number: int) -> dict[str, Any]:
    found, arm = counts.arms[number], experiment.arms[number]
    settings, spread = experiment.settings, float(experiment.metric in _SHARES)
    own = arm_interval(found.own, planned=settings.planned_outcomes, alpha=settings.alpha, spread=spread) if found.own.rows else None
    times = 1 << counts.level
    value = {
        "role": arm.role,
        "version": arm.version,
        "keys": sum(count for (_, place), count in counts.keys.items() if place == number) * times,
        "keys_exact": counts.level == 0,
        "requests": found.told.requests,
        "rows": found.told.rows,
        "failed_rows": found.told.failed,
        "seconds": {f"p{round(100 * q)}": found.quantile(q) for q in (0.5, 0.9, 0.99)},
        "outcomes": found.own.rows,
        "unknown_labels": found.told.unknown,
        "outcomes_without_a_value": found.told.unmeasured,
        "value": None if own is None else _plain(own),
    }
    return {**value, "shadow": _shadow(found)} if found.told.compared or arm.role == "shadow" else value


def _shadow(found: ArmCounts) -> dict[str, Any]:
    told = found.told
    return {
        "lost": told.lost,
        "compared": told.compared,
        "agreement": told.agreed / told.compared if told.compared else None,
        "distance": told.distance / told.distances if told.distances else None,
    }


def _comparison(experiment: Experiment, counts: Counts, number: int, ratio: Mapping[str, Any]) -> dict[str, Any]:
    settings, arm = experiment.settings, experiment.arms[number]
    found = difference(experiment, counts, number)
    effect = _effect(experiment, found)
    more = rows_to_see(found, effect, planned=settings.planned_outcomes, alpha=settings.alpha / len(experiment.others))
    state = _state(experiment, counts, number, found, off=bool(ratio["off"]))
    value = {
        "state": state,
        "difference": _plain(found.anytime),
        "p": found.p,
        "fixed": {**_plain(found.fixed), "p": found.fixed_p},
        "outcomes": {"champion": found.rows[0], arm.name: found.rows[1]},
        "effect": effect if math.isfinite(effect) else None,
        "more_outcomes": math.ceil(more) if math.isfinite(more) else None,
    }
    return {**value, "verdict": _sentence(experiment, arm, value, ratio)}


def _state(experiment: Experiment, counts: Counts, number: int, found: ArmDifference, *, off: bool) -> str:
    if off:
        return "untrusted"
    if not enough(experiment, counts.arms[number]):
        return "early"
    if not found.anytime.excludes_zero:
        return "undecided"
    return "better" if (found.value > 0) == experiment.higher_is_better else "worse"


def _effect(experiment: Experiment, found: ArmDifference) -> float:
    """Return the smallest difference that matters: the user's, or a usual one."""
    given = experiment.settings.min_effect
    if given is not None:
        return given
    return _SHARE_EFFECT if experiment.metric in _SHARES else _SPREAD_EFFECT * math.sqrt(found.row_variance)


def _sentence(experiment: Experiment, arm: Arm, value: Mapping[str, Any], ratio: Mapping[str, Any]) -> str:
    state, settings = value["state"], experiment.settings
    reach = value["difference"]
    interval = f"[{reach['low']:+.4g}, {reach['high']:+.4g}]" if reach["low"] is not None else ""
    same = " (both are the same bundle: an A/A test)" if arm.version == experiment.arms[0].version else ""
    if state == "untrusted":
        seen = ", ".join(f"{name} {count:,} instead of {ratio['expected'][name]:,.0f}" for name, count in ratio["keys"].items())
        return f"the sample ratio is off: keys were not divided as they should have been ({seen}); do not trust this experiment."
    if state == "early":
        counts = " and ".join(f"{count:,} of {name}" for name, count in value["outcomes"].items())
        return f"{arm.name}: too early to say; each arm needs {settings.min_outcomes:,} outcomes of {LEAST_KEYS} keys, there are {counts}."
    if state == "undecided":
        more = value["more_outcomes"]
        wait = f"; about {more:,} more outcomes to see one of {value['effect']:.3g}" if more else ""
        return f"{arm.name}: no difference yet in {experiment.metric}: {reach['value']:+.4g} {interval}{wait}{same}."
    return f"{arm.name} is {state} by {abs(reach['value']):.4g} in {experiment.metric}, {interval}: safe to look at any time{same}."


def _plain(interval: Interval) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in asdict(interval).items()}
