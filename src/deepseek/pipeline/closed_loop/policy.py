"""When a round begins, and which rows it is made of: decisions from plain facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deepseek.pipeline.closed_loop.journal import Round
from deepseek.recipe.sections import OnAlarmSection

WEEK_S = 7 * 86_400.0
LEAST_HELD_OUT = 50
"""With fewer rows than these a gate would let hardly anything pass."""
TRIES = 4
"""Models of one round at most, each of twice as many fresh rows as the one before."""
VALIDATION = 0.15
"""Share of validation rows where the recipe has none: a choice has to be made on some."""


def trigger(alarms: Sequence[tuple[int, Mapping[str, Any]]], kinds: Sequence[str], run: Path) -> tuple[int, Mapping[str, Any]] | None:
    """Return the alarm that a round is to begin for, the latest that holds: the number of its last event, and its first event.

    Args:
        alarms: The events of the monitor's log that no round has answered, the oldest first, with their numbers.
        kinds: Which count: `metric`, `drift`.
        run: The folder of the run that is watched; alarms about others do not count.
    """
    holding: dict[str, tuple[int, Mapping[str, Any]]] = {}
    for seq, event in alarms:
        name = str(event["name"])
        if name.partition(":")[0] not in kinds or not is_of(run, str(event["model"])):
            continue
        if event["state"] == "cleared":
            holding.pop(name, None)
        else:
            holding[name] = (seq, holding[name][1] if name in holding else event)
    return max(holding.values(), key=lambda one: one[0], default=None)


def is_of(run: Path, model: str) -> bool:
    """Whether what is watched, a bundle's path wherever it was opened from, lies in a run's folder."""
    wanted, parts = run.absolute().parts[-2:], Path(model).absolute().parts
    return any(parts[place : place + 2] == wanted for place in range(len(parts) - 1))


def is_due(rounds: Sequence[Round], champion: str, labels: int) -> bool:
    """Whether a promoted model is to be followed by one of more rows: right after a change there were few.

    Args:
        rounds: The rounds, the first one first; a follow-up that came to nothing is followed by none.
        champion: The name of the run that is deployed.
        labels: How many labels it has met since.
    """
    last = rounds[-1] if rounds else None
    if last is None or last.state != "promoted" or last.last("undone") is not None or last.fact("candidate") != champion:
        return False
    return labels >= 2 * sum(int(count) for count in last.fact("rows", {}).values())


def refusal(rounds: Sequence[Round], section: OnAlarmSection, now: float) -> str | None:
    """Say why no round may begin now, or nothing.

    Args:
        rounds: Those before, the first one first.
        section: The recipe's `monitor.on_alarm`.
        now: The time in seconds.
    """
    if section.action == "none":
        return "monitor.on_alarm.action is none"
    if not rounds:
        return None
    rest = rounds[-1].since + section.cooldown - now
    if rest > 0:
        return f"the last round ended less than {section.cooldown:,.0f} s ago (cooldown); {rest:,.0f} s are left"
    lately = sum(now - one.began_at < WEEK_S for one in rounds)
    if lately >= section.max_rounds_per_week:
        return f"there were {lately} rounds in the last seven days (max_rounds_per_week {section.max_rounds_per_week})"
    return None


def alpha_of(number: int, alpha: float) -> float:
    """Return what a model of a round may pass by: half of `alpha` the first, then half of that, so that all together stay below it.

    Args:
        number: The how many-th model of the round, from 1.
        alpha: The round's.
    """
    return alpha / 2.0**number


def after_verdict(passed: bool, gain: float | None, number: int) -> Literal["gated", "unsure", "rejected"]:
    """Return what follows a verdict: a model that is better, but not surely, is made again of more rows, a few times.

    Args:
        passed: Whether it is surely better.
        gain: What it is better by; nothing where the rows could not tell.
        number: The how many-th model of the round it is, from 1.
    """
    if passed:
        return "gated"
    return "unsure" if (gain is None or gain > 0) and number < TRIES else "rejected"


@dataclass(frozen=True)
class Parts:
    """How fresh rows, in the order of time, are shared out.

    Attributes:
        first: The first row that counts at all.
        validation: The first row that choices are made on; those before are trained on.
        holdout: The first row that the new model is judged on and never sees.
        rows: How many rows there are.
    """

    first: int
    validation: int
    holdout: int
    rows: int

    @property
    def names(self) -> list[str]:
        """What becomes of each row from `first` on: `train`, `validation`, `test`."""
        sizes = (self.validation - self.first, self.holdout - self.validation, self.rows - self.holdout)
        return [name for name, size in zip(("train", "validation", "test"), sizes, strict=True) for _ in range(size)]


def first_unseen(labelled_at: np.ndarray, at: np.ndarray, *, alarm_at: float, judged_until: float) -> int:
    """Return the first row from which on all rows may judge a model.

    Those whose labels raised the alarm may not: they are rows on which the old model happened to do badly, against which any other looks
    good. Nor may those that have judged a model before.

    Args:
        labelled_at: When each label came, in seconds, `[rows]`, in the order of the requests.
        at: When each row was asked, in seconds, `[rows]`.
        alarm_at: When the alarm was raised, in seconds; minus infinity where there was none.
        judged_until: The time of the last request that has judged a model.
    """
    used = np.flatnonzero((labelled_at <= alarm_at) | (at <= judged_until))
    return int(used[-1]) + 1 if len(used) else 0


def share_out(rows: int, *, first: int, fresh: int, holdout: float, validation: float) -> Parts | None:
    """Share out rows by time: train, then validate, then judge; nothing where too few are left to judge on.

    A row that an earlier round has judged a model on may be trained on now, but judges no other: chosen often enough on the same rows,
    some model looks better than it is.

    Args:
        rows: How many rows there are, in the order of time.
        first: The first that counts.
        fresh: The first that has judged no model yet.
        holdout: The latest share, which judges, in (0, 1).
        validation: The share of the others, the latest, that choices are made on, in [0, 1).
    """
    count = rows - first
    held = max(rows - round(holdout * count), fresh)
    if rows - held < LEAST_HELD_OUT:
        return None
    chosen = held - round((validation or VALIDATION) * (held - first))
    return Parts(first, chosen, held, rows) if first < chosen < held else None
