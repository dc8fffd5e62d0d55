"""The loop's state machine: each step does one thing and writes one line; whoever is killed in between goes on from the lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.artifacts import RunFolder
from deepseek.errors import InputError, RunError
from deepseek.monitoring.store import Store
from deepseek.pipeline.closed_loop.champion import SPLIT, Champion
from deepseek.pipeline.closed_loop.deployment import Deployment, NameDeployment
from deepseek.pipeline.closed_loop.gate import goodness, judge, truth_of
from deepseek.pipeline.closed_loop.gathering import FreshRows, fresh_rows
from deepseek.pipeline.closed_loop.journal import LOOP_FILE, Event, LoopJournal, Round, standing
from deepseek.pipeline.closed_loop.making import Workshop, answers_of, part_of
from deepseek.pipeline.closed_loop.policy import (
    LEAST_HELD_OUT,
    Parts,
    after_verdict,
    alpha_of,
    first_unseen,
    is_due,
    refusal,
    share_out,
    trigger,
)
from deepseek.pipeline.closed_loop.rollout import after_stage, stage_after
from deepseek.pipeline.closed_loop.telling import tell
from deepseek.statistics.change_point import ChangePoint, change_point

SURE = 0.05
"""Probability below which a change in the labels counts: rows from before it are left out."""
STAGES = frozenset({"shadow", "canary"})
Deployer = Callable[[Champion], Deployment]


@dataclass
class _Heard:
    """Events of a log that were read: whose and since which, up to which, and those that count."""

    since: tuple[str, str, int]
    last: int
    events: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)


class Loop:
    """Goes from alarms to new models, one step at a time.

    Args:
        run: The run that is deployed: its folder, or that of its name.
        deployer: Makes what drives the answers, for the run that is deployed; a run's name where not given.
        overrides: Keys of the section `monitor`, each `PATH=VALUE`.
        clock: Gives the time in seconds.

    Attributes:
        journal: What happened.
        champion: The model that is deployed.
        waits_for: Why nothing can be done at the moment, in words.

    Raises:
        BundleError: There is no run there.
        InputError: Its recipe says nothing of a loop.
    """

    _heard: _Heard | None = None

    def __init__(
        self, run: Path, *, deployer: Deployer | None = None, overrides: tuple[str, ...] = (), clock: Callable[[], float] = time.time
    ) -> None:
        given = RunFolder.open(run)
        self._folder = given.path.parent
        self._overrides, self._clock = overrides, clock
        self.journal = LoopJournal(self._folder / LOOP_FILE)
        self._open_champion(standing(self.journal.rounds, given.path.name))
        self.deployment: Deployment = deployer(self.champion) if deployer else NameDeployment(self.champion.path)
        self._workshop = Workshop(self._folder, self._write)
        self.waits_for = ""

    @property
    def round(self) -> Round | None:
        """The round in hand, or nothing."""
        rounds = self.journal.rounds
        return rounds[-1] if rounds and not rounds[-1].ended else None

    def tick(self, *, now: bool = False) -> Event | None:
        """Do the next thing, and return what was written; nothing where there is nothing to do yet (`waits_for` says why).

        Args:
            now: Begin a round without an alarm and whatever the bounds say, if there is none in hand.

        Raises:
            DeepSeekError: The log or the journal cannot be used.
        """
        self.waits_for = ""
        current = self.round
        if (current is None or current.state not in STAGES) and (undone := self._notice_undone()) is not None:
            return undone
        if current is None:
            return self._begin(now=now)
        steps: dict[str, Callable[[Round], Event | None]] = {
            "begun": self._gather,
            "unsure": self._gather,
            "gathered": self._make,
            "training": self._make,
            "made": self._make,
            "trained": self._judge,
            "gated": self._advance,
            "shadow": self._look,
            "canary": self._look,
            "waiting": self._await,
            "approved": self._advance,
        }
        return steps[current.state](current)

    def run(self, *, now: bool = False) -> list[Event]:
        """Go on until nothing can be done at the moment or a round has ended; return what was written."""
        written: list[Event] = []
        while (event := self.tick(now=now and not written)) is not None:
            written.append(event)
            self.tell()
            if event.state in {"undone"} or self.round is None:
                break
        return written

    def approve(self) -> Event:
        """Let the model that waits be deployed at the next step.

        Raises:
            InputError: None waits.
        """
        return self._write(self._approvable(), "approved", "approved by hand")

    def undo(self) -> Event:
        """Take the last promotion back: the model before it answers again.

        Raises:
            InputError: There is none that still stands.
        """
        last = self._revocable()
        if not self.deployment.staged:
            self.deployment.rollback()
        for _ in range(2):  # where an experiment runs at the server, as in the round after, the first takes back that alone
            if self.deployment.staged and self.deployment.status().current == self.champion.name:
                self.deployment.rollback()
        return self._undone(last, "taken back by hand")

    def require(self, do: str) -> None:
        """See that something can be done by hand, without doing it.

        Args:
            do: `approve` or `undo`.

        Raises:
            InputError: It cannot.
        """
        if do == "approve":
            self._approvable()
        else:
            self._revocable()

    def tell(self) -> None:
        """Tell of what was not told yet; what cannot be told now is told later."""
        tell(self.journal, self.champion, now=self._clock())

    def status(self) -> dict[str, Any]:
        """Return how it stands, as plain JSON values."""
        rounds = self.journal.rounds
        last = rounds[-1] if rounds else None
        return {
            **self.champion.facts(),
            "state": "idle" if last is None or last.ended else last.state,
            "waits_for": self.waits_for or self._next(last),
            "round": None if last is None else last.number,
            "last": None if last is None else "undone" if last.last("undone") else last.state,
            "candidate": None if last is None else last.fact("candidate"),
            "rounds": len(rounds),
        }

    def _next(self, last: Round | None) -> str:
        """Say what the round waits for, as far as the journal alone tells."""
        if last is None or last.ended:
            return "an alarm"
        stages = {"waiting": f"deepseek loop approve {self.champion.path}", "shadow": "the shadow stage", "canary": "the canary stage"}
        return stages.get(last.state, "more rows with labels" if last.state in {"begun", "unsure"} else "the process that follows it")

    def _begin(self, *, now: bool) -> Event | None:
        rounds, place = self.journal.rounds, self.champion.store_name
        answered = max((int(one.fact("alarm", 0)) for one in rounds if one.fact("store") == place), default=0)
        facts: dict[str, Any] = {"champion": self.champion.name, "store": place, "action": self.champion.then.action}
        number = len(rounds) + 1
        with self.champion.store() as store:
            alarm = trigger(self._alarms_after(store, answered), self.champion.then.alarms, self.champion.path)
            due = self.champion.then.follow_up and is_due(rounds, self.champion.name, store.counts()["outcomes"])
        facts["alarm"] = answered
        if alarm is not None:  # its rows may judge no model, whoever asked for the round
            facts |= {"alarm": alarm[0], "name": alarm[1]["name"], "alarm_at": alarm[1]["at"]}
        if now:
            return self._append(number, "begun", "asked for", {**facts, "asked": True})
        if alarm is None and not due:
            self.waits_for = "an alarm"
            return None
        if why := refusal(rounds, self.champion.then, self._clock()):
            self.waits_for = why
            return None
        why = "twice as many rows have come as the model was made of" if alarm is None else str(alarm[1]["summary"])
        return self._append(number, "begun", why, facts)

    def _alarms_after(self, store: Store, answered: int) -> list[tuple[int, Mapping[str, Any]]]:
        """Return the events after one that may begin a round; none is read twice, as there may be thousands of others before it."""
        since = (self.champion.store_name, self.champion.name, answered)
        if self._heard is None or self._heard.since != since:
            self._heard = _Heard(since, answered)
        for seq, event in store.alarms_after(self._heard.last):
            self._heard.last = seq
            if str(event["name"]).partition(":")[0] in self.champion.then.alarms:
                self._heard.events.append((seq, event))
        return self._heard.events

    def _gather(self, current: Round) -> Event | None:
        then = self.champion.then
        with self.champion.store() as store:
            if self._cleared(store, current):
                return self._write(current, "given_up", "the alarm was cleared before there were enough rows")
            found = fresh_rows(store.labelled_rows(most=then.recent.max_rows), self.champion.preparation)
        unseen = first_unseen(
            found.labelled_at,
            found.at,
            alarm_at=float(current.fact("alarm_at", -np.inf)),
            judged_until=max((float(one.fact("judged_until", -np.inf)) for one in self.journal.rounds), default=-np.inf),
        )
        change = self._change(found, unseen) if then.recent.since == "change" else None
        first = change.place if change and change.p < SURE else 0
        least = int(current.fact("next_rows", then.recent.min_rows))
        parts = self._parts(found, first, unseen=unseen, least=least)
        if parts is None:
            return self._wait_or_give_up(
                current,
                f"{found.table.num_rows - first:,} fresh rows with labels of {least:,} that are asked for, and "
                f"{found.table.num_rows - unseen:,} labels since the alarm or the last judgement of at least {LEAST_HELD_OUT}",
            )
        fresh = found.table.slice(first).append_column(SPLIT, pa.array(parts.names))
        self._workshop.keep(current, fresh)
        facts = {
            "rows": {name: parts.names.count(name) for name in ("train", "validation", "test")},
            "aside": found.aside,
            "change": None if change is None else {"place": change.place, "before": change.before, "after": change.after, "p": change.p},
            "judged_until": float(found.at[-1]),
            "try": 1 + sum(event.state == "gathered" for event in current.events),
        }
        return self._write(current, "gathered", f"{fresh.num_rows:,} fresh rows with labels", facts)

    def _parts(self, found: FreshRows, first: int, *, unseen: int, least: int) -> Parts | None:
        then, rows = self.champion.then, found.table.num_rows
        if rows - first < min(least, then.recent.max_rows):
            return None
        train, validation, _ = self.champion.recipe.data.split.shares
        return share_out(rows, first=first, fresh=unseen, holdout=then.holdout, validation=validation / (train + validation))

    def _change(self, found: FreshRows, unseen: int) -> ChangePoint | None:
        """Look where the champion's answers have become worse, in those rows alone that will judge nothing."""
        rows = found.table.num_rows
        table = found.table.slice(0, max(unseen, rows - round(self.champion.then.holdout * rows)))
        if not table.num_rows:
            return None
        answered = answers_of(self.champion.path, table)
        return change_point(goodness(answered, truth_of(table, answered.target), self.champion.metric))

    def _make(self, current: Round) -> Event:
        return self._workshop.make(current, self.champion)

    def _judge(self, current: Round) -> Event:
        fresh, then = self._workshop.rows(current), self.champion.then
        held = part_of(fresh, "test")
        old, new = answers_of(self.champion.path, held), answers_of(self._workshop.candidate(current), held)
        labels = truth_of(held, old.target)
        number = int(current.fact("try"))
        verdict = judge(old, new, labels, metric=self.champion.metric, min_gain=then.min_gain, alpha=alpha_of(number, then.alpha))
        state = after_verdict(verdict.passed, verdict.gain, number)
        more = {"next_rows": 2 * fresh.num_rows} if state == "unsure" else {}
        return self._write(current, state, verdict.why, {"verdict": verdict.to_json(), **more})

    def _advance(self, current: Round, why: str = "", *, there: bool = False, seen: Mapping[str, int] | None = None) -> Event | None:
        """Take the candidate to the stage that follows its state, or note that it is deployed already."""
        candidate, then = self._workshop.candidate(current), self.champion.then
        stage = "promoted" if there else stage_after(current.state, then, staged=self.deployment.staged)
        try:
            if stage == "shadow":
                self.deployment.shadow(candidate)
                return self._write(current, "shadow", f"asked beside the old model for {then.shadow.rows:,} rows")
            if stage == "canary":
                self.deployment.share(candidate, then.canary.share)
                return self._write(
                    current, "canary", f"answers {then.canary.share:.0%} of the requests{why and f'; {why}'}", {"before": dict(seen or {})}
                )
            if stage == "waiting":
                return self._write(current, "waiting", f"waits for: deepseek loop approve {self.champion.path}{why and f'; {why}'}")
            self.deployment.promote(candidate)
        except RunError as error:
            return self._wait_or_give_up(current, error.message)
        except InputError as error:
            return self._write(current, "failed", error.message)
        RunFolder(candidate).release()
        event = self._write(current, "promoted", why or "it has passed everything", {"candidate": candidate.name})
        self._open_champion(candidate.name)
        return event

    def _look(self, current: Round) -> Event | None:
        """See whether a stage has met its rows."""
        candidate = self._workshop.candidate(current)
        try:
            found = self.deployment.status()
            waited = self._clock() - current.since
            before = current.fact("before", {}) if current.state == "canary" else {}
            step = after_stage(current.state, found.since(**before), self.champion.then, candidate=candidate.name, waited_s=waited)
            if step.do == "wait":
                self.waits_for = f"the {current.state} stage: {step.why}"
                return None
            if step.do != "go_on" and found.stage != "none":
                self.deployment.rollback()
        except RunError as error:
            return self._wait_or_give_up(current, error.message)
        seen = {"rows": found.rows, "outcomes": found.outcomes}
        if step.do == "go_on":
            return self._advance(current, f"{current.state}: {step.why}", there=found.current == candidate.name, seen=seen)
        return self._write(current, "rolled_back" if step.do == "go_back" else "given_up", step.why, {"seen": seen})

    def _await(self, current: Round) -> Event | None:
        try:
            if self.deployment.status().current == self._workshop.candidate(current).name:
                return self._write(current, "approved", "promoted by hand")
        except RunError as error:
            return self._wait_or_give_up(current, error.message)
        self.waits_for = f"deepseek loop approve {self.champion.path}"
        return None

    def _notice_undone(self) -> Event | None:
        """See whether somebody took the last promotion back at the server, also while a round is in hand; a stage sees to that itself."""
        last = self._last_promotion()
        if last is None or not self.deployment.staged:
            return None
        try:
            current = self.deployment.status().current
        except RunError as error:
            progress.warn(error.message)
            return None
        return self._undone(last, "taken back at the server") if current == last.fact("champion") else None

    def _undone(self, last: Round, why: str) -> Event:
        if (current := self.round) is not None:  # its model is judged by one that is not deployed any more
            self._write(current, "given_up", f"the model that it was to follow was {why}")
        RunFolder(self._workshop.candidate(last)).hold(why)
        event = self._write(last, "undone", why)
        self._open_champion(str(last.fact("champion")))
        return event

    def _approvable(self) -> Round:
        current = self.round
        if current is None or current.state != "waiting":
            raise InputError("no model waits to be approved", hint="see how it stands: deepseek loop status RUN")
        return current

    def _revocable(self) -> Round:
        last = self._last_promotion()
        if last is None:
            raise InputError("there is no promotion to take back", hint="see what happened: deepseek loop status RUN")
        return last

    def _last_promotion(self) -> Round | None:
        standing_still = [one for one in self.journal.rounds if one.state == "promoted" and one.last("undone") is None]
        last = standing_still[-1] if standing_still else None
        return last if last is not None and last.fact("candidate") == self.champion.name else None

    def _cleared(self, store: Store, current: Round) -> bool:
        name = None if current.fact("asked") else current.fact("name")  # asked for is asked for, alarm or not
        events = store.alarms_after(int(current.fact("alarm", 0))) if name else []
        return any(event["name"] == name and event["state"] == "cleared" for _, event in events)

    def _wait_or_give_up(self, current: Round, why: str) -> Event | None:
        waited, longest = self._clock() - current.since, self.champion.then.max_wait
        if waited > longest:
            return self._write(current, "given_up", f"{why}; waited for longer than {longest:,.0f} s (max_wait)")
        self.waits_for = why
        return None

    def _open_champion(self, name: str) -> None:
        self.champion = Champion.open(self._folder / name, self._overrides)

    def _write(self, current: Round, state: str, why: str, facts: Mapping[str, Any] | None = None) -> Event:
        return self._append(current.number, state, why, facts)

    def _append(self, number: int, state: str, why: str, facts: Mapping[str, Any] | None) -> Event:
        event = self.journal.append(state, why, number=number, at=self._clock(), facts=facts)
        progress.log(f"loop, round {number}: {state}: {why}")
        return event
