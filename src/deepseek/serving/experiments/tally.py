"""What the recorder makes of an experiment: answers and outcomes, counted arm by arm, tested, and written where workers find it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from deepseek.artifacts import write_text
from deepseek.errors import RunError
from deepseek.monitoring.outcomes import outcomes_of, predictions_of
from deepseek.serving.experiments.assignment import Ticket
from deepseek.serving.experiments.audit import folder_of, note
from deepseek.serving.experiments.counts import EXCUSED, Counts
from deepseek.serving.experiments.guard import Stop, reason_to_stop
from deepseek.serving.experiments.ledger import MOST_KEYS, AnswerRow, Learned, Ledger, OutcomeRow
from deepseek.serving.experiments.settings import Experiment
from deepseek.serving.experiments.verdict import results, suspicion
from deepseek.serving.journal import Answered, Entry, Outcomes, Unanswered
from deepseek.serving.state import State, Wanted
from deepseek.statistics.arms import BUCKETS, ArmSums

log = logging.getLogger("deepseek.serving")

WRITE_S = 1.0
FORGET_S = 60.0
_HASH_BITS = 63
Keyed = tuple[Answered, Sequence[Ticket]]


class ExperimentConsumer:
    """Counts what the journal tells of experiments, and takes challengers out that their guard does not want.

    Args:
        state: What the server's workers agree on.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._stamp = (0, 0)
        self._tallies: dict[str, Tally] = {}
        self._forget_at = 0.0

    def take(self, entries: Sequence[Entry]) -> None:
        """Count entries; those that were counted before change nothing."""
        self._follow()
        self._each(lambda name, tally: tally.take([entry for entry in entries if entry.model == name]))

    def tick(self, now: float) -> None:
        """Write what was found, once a second where anything is new; guard; forget what is old."""
        self._follow()
        forget = not 0 < self._forget_at - now <= FORGET_S
        if forget:
            self._forget_at = now + FORGET_S

        def act(name: str, tally: Tally) -> None:
            if tally.is_due(now):
                stop = reason_to_stop(tally.experiment, tally.counts)
                if stop is not None:  # before anything is written: where the disk is full it is stopped all the same
                    self._stop(name, stop, now)
                tally.write(now)
            if forget:
                tally.forget()

        self._each(act)

    def close(self) -> None:
        """Write what was found, and close all files."""
        try:
            self._each(lambda _, tally: tally.write(math.inf))
        finally:
            for tally in self._tallies.values():
                tally.close()

    def _each(self, act: Callable[[str, Tally], None]) -> None:
        """Do something for each experiment; an error of one is raised once the others had their turn, first of all one that goes by."""
        errors: list[Exception] = []
        for name, tally in self._tallies.items():
            try:
                act(name, tally)
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
        if errors:
            raise min(errors, key=lambda error: not isinstance(error, RunError))

    def _follow(self) -> None:
        stamp = self._state.stamp
        if stamp == self._stamp:
            return
        for name, wanted in self._state.read().items():
            if wanted.experiment is None:
                continue
            experiment, there = Experiment.from_json(wanted.experiment), self._tallies.get(name)
            if there is not None and there.experiment.id == experiment.id:
                there.follow(experiment)
                continue
            if there is not None:
                there.write(math.inf)
            self._tallies[name] = Tally(experiment, folder_of(self._state.folder, name))
            if there is not None:
                there.close()
        self._stamp = stamp  # what cannot be opened now is tried again

    def _stop(self, name: str, stop: Stop, now: float) -> None:
        def stopped(wanted: Wanted) -> Wanted:
            if not wanted.experimenting or wanted.experiment is None:
                return wanted
            experiment = Experiment.from_json(wanted.experiment)
            if experiment.id != self._tallies[name].experiment.id:
                return wanted
            alone = len(experiment.others) == 1
            changed = experiment.ended(f"stopped: {stop.why}", at=now) if alone else experiment.with_share(stop.arm, 0.0, at=now)
            return replace(wanted, experiment=changed.to_json())

        identifier = self._tallies[name].experiment.id
        self._state.change(name, stopped)
        note(self._state.folder, name, who="guard", what="stop", old=stop.arm, new="stopped", experiment=identifier, why=stop.why)
        log.warning("experiment %s on %s: the arm %s is taken out: %s", identifier, name, stop.arm, stop.why)


class Tally:
    """The counts of one experiment, kept in a file.

    Args:
        experiment: The experiment.
        folder: Where its file is, and where results are written.
        most_keys: So many keys are known one by one.

    Attributes:
        experiment: The experiment, as it is now.
        counts: What was counted.
    """

    def __init__(self, experiment: Experiment, folder: Path, *, most_keys: int = MOST_KEYS) -> None:
        self.experiment, self._folder, self._most_keys = experiment, folder, most_keys
        self._ledger = Ledger(folder / f"{experiment.id}.db")
        self.counts = Counts.load(self._ledger, len(experiment.arms))
        self._numbers = {arm.name: number for number, arm in enumerate(experiment.arms)}
        self._new, self._written_at = True, 0.0

    def follow(self, experiment: Experiment) -> None:
        """Go on with other shares, or with the end."""
        self.experiment, self._new = experiment, True

    def take(self, entries: Sequence[Entry]) -> None:
        """Count what belongs to the experiment; all of it, or on an error nothing."""
        answered = [(entry, tickets) for entry in entries if isinstance(entry, Answered) and (tickets := self._tickets(entry))]
        lost = [entry for entry in entries if isinstance(entry, Unanswered) and self._tickets(entry)]
        told = [entry for entry in entries if isinstance(entry, Outcomes)]
        if not answered and not lost and not told:
            return
        try:
            with self._ledger.transaction():
                new = self._take_answers(answered)
                self._take_lost(lost)
                self._join(new, self._take_outcomes(told))
                self.counts.suspicion = max(self.counts.suspicion, suspicion(self.experiment, self.counts))
                self.counts.save(self._ledger)
        except BaseException:
            self.counts = Counts.load(self._ledger, len(self.experiment.arms))
            raise
        self._new = True

    def _tickets(self, entry: Answered | Unanswered) -> list[Ticket]:
        if entry.arm not in self._numbers or entry.keys is None:
            return []
        tickets = [Ticket.read(key) for key in entry.keys]
        return tickets if tickets and tickets[0].experiment == self.experiment.id else []

    def _take_answers(self, answered: Sequence[Keyed]) -> list[AnswerRow]:
        rows: list[AnswerRow] = []
        entry_of: dict[tuple[str, int], tuple[Answered, Ticket]] = {}
        for entry, tickets in answered:
            made = self._rows(entry, tickets)
            for row, ticket in zip(made, tickets, strict=True):
                entry_of.setdefault((row.id, row.arm), (entry, ticket))  # of several answers with one id the first counts
            rows += made
        new = self._ledger.add_answers(rows)
        by_entry: dict[int, list[AnswerRow]] = {}
        for row in new:
            by_entry.setdefault(id(entry_of[row.id, row.arm][0]), []).append(row)
        for found in by_entry.values():
            self._count_request(entry_of[found[0].id, found[0].arm][0], found)
        self._count_keys([(row, entry_of[row.id, row.arm][1]) for row in new])
        if any(None in phase.shares.values() for phase in self.experiment.phases):
            self._compare(new)
        return new

    def _rows(self, entry: Answered, tickets: Sequence[Ticket]) -> list[AnswerRow]:
        said, probability = predictions_of(entry.answers, self.experiment.target)
        shares = [None] * len(said) if probability is None else [row.astype(np.float32).tobytes() for row in probability]
        number = self._numbers[entry.arm or ""]
        return [
            AnswerRow(
                one, number, ticket.phase, ticket.key % BUCKETS, orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode(), share
            )
            for one, ticket, value, share in zip(entry.ids, tickets, said, shares, strict=True)
        ]

    def _count_request(self, entry: Answered, rows: Sequence[AnswerRow]) -> None:
        number = self._numbers[entry.arm or ""]
        arm = self.counts.arms[number]
        arm.told.requests += 1
        arm.told.rows += len(rows)
        own = entry.version == self.experiment.arms[number].version
        failed = sum(_is_no_number(row, self.experiment.target.kind) for row in rows) if own else len(rows)
        arm.told.failures += failed > 0
        arm.told.failed += failed
        arm.seconds.update([entry.seconds])

    def _take_lost(self, lost: Sequence[Unanswered]) -> None:
        for entry in lost:
            number = self._numbers[entry.arm]
            rows = len(self._ledger.add_lost([(one, number) for one in entry.ids]))
            if not rows:
                continue
            told = self.counts.arms[number].told
            told.lost[entry.reason] = told.lost.get(entry.reason, 0) + rows
            if entry.reason not in EXCUSED:
                told.requests += 1
                told.rows += rows
                told.failures += 1
                told.failed += rows

    def _count_keys(self, new: Sequence[tuple[AnswerRow, Ticket]]) -> None:
        """Count keys when they are met first; where there are too many, their hashes choose which half of them is known from then on."""
        limit = 1 << (_HASH_BITS - self.counts.level)
        keys: dict[int, tuple[int, int]] = {}
        for row, ticket in new:
            kept = ticket.key >> 1
            if kept < limit and not self._shadowed(row.arm, row.phase):
                keys.setdefault(kept, (row.arm, row.phase))
        for arm, phase in self._ledger.add_keys(keys).values():
            self.counts.keys[phase, arm] = self.counts.keys.get((phase, arm), 0) + 1
        while sum(self.counts.keys.values()) > self._most_keys:
            self.counts.level += 1
            left = self._ledger.keep_keys_below(1 << (_HASH_BITS - self.counts.level))
            self.counts.keys = {(phase, arm): count for arm, phase, count in left}

    def _shadowed(self, arm: int, phase: int) -> bool:
        """Whether an arm was a shadow in a phase."""
        return self.experiment.phases[phase].shares[self.experiment.arms[arm].name] is None

    def _compare(self, new: Sequence[AnswerRow]) -> None:
        """Compare what shadows said with what the champion said, once both are there."""
        fresh = {(row.id, row.arm) for row in new}
        together: dict[str, dict[int, AnswerRow]] = {}
        for row in self._ledger.answers({row.id for row in new}):
            together.setdefault(row.id, {})[row.arm] = row
        for arms in together.values():
            champion = arms.get(0)
            for number, row in arms.items():
                if champion is None or not number or not {(row.id, 0), (row.id, number)} & fresh or not self._shadowed(number, row.phase):
                    continue
                told = self.counts.arms[number].told
                told.compared += 1
                told.agreed += row.said == champion.said
                distance = _distance(champion, row)
                if distance is not None:
                    told.distance += distance
                    told.distances += 1

    def _take_outcomes(self, told: Sequence[Outcomes]) -> Learned:
        every: list[OutcomeRow] = []
        for entry in told:
            labels: Sequence[Any] = entry.labels if entry.labels is not None else [None] * len(entry.ids)
            rewards: Sequence[float | None] = entry.rewards if entry.rewards is not None else [None] * len(entry.ids)
            every += [OutcomeRow(one, entry.at, *rest) for one, *rest in zip(entry.ids, labels, rewards, strict=True)]
        learned = self._ledger.add_outcomes(every)
        self.counts.outcomes += learned.first
        self.counts.again += learned.again
        return learned

    def _join(self, new: Sequence[AnswerRow], learned: Learned) -> None:
        """Give values to answers whose outcomes are known now, and add them up."""
        ids = {row.id for row in new} | learned.labelled | learned.rewarded
        outcomes = self._ledger.outcomes(ids)
        if not outcomes:
            return
        rows = self._ledger.answers(outcomes)
        answered = {(row.id, row.arm) for row in new}
        # an answer and its label meet once: when the later of both comes
        met = {(row.id, row.arm) for row in rows if row.id in learned.labelled or (row.id, row.arm) in answered}
        valued = self._valued([row for row in rows if row.value is None], outcomes, met)
        self._ledger.give_values(valued)
        known = {(row.id, row.arm): row for row in rows if row.value is not None} | {(row.id, row.arm): row for row in valued}
        fresh = {(row.id, row.arm) for row in valued}
        for number in range(len(self.experiment.arms)):
            self._add(number, [row for row in valued if row.arm == number], known, fresh)

    def _add(self, number: int, valued: Sequence[AnswerRow], known: dict[tuple[str, int], AnswerRow], fresh: set[tuple[str, int]]) -> None:
        arms = self.counts.arms
        if number == 0:
            _sum(arms[0].own, valued)
            for other in range(1, len(arms)):
                _sum(arms[other].against, [row for row in valued if not self._shadowed(other, row.phase)])
            return
        _sum(arms[number].own, [row for row in valued if not self._shadowed(number, row.phase)])
        # of a shadow only pairs count: rows of which both its value and the champion's are known
        pairs = [
            (known[one, 0], row)
            for (one, arm), row in known.items()
            if arm == number and (one, 0) in known and {(one, 0), (one, number)} & fresh and self._shadowed(number, row.phase)
        ]
        _sum(arms[number].own, [shadow for _, shadow in pairs])
        _sum(arms[number].against, [champion._replace(phase=shadow.phase) for champion, shadow in pairs])

    def _valued(
        self, rows: Sequence[AnswerRow], outcomes: dict[str, tuple[Any, float | None]], met: set[tuple[str, int]]
    ) -> list[AnswerRow]:
        """Return rows with what their outcomes come to; those whose outcomes say nothing of the metric are left out.

        Args:
            rows: The rows.
            outcomes: Their labels and rewards, by id.
            met: Id and arm of those that meet their label now: a label that is no class is counted then.
        """
        metric, target = self.experiment.metric, self.experiment.target
        if metric == "reward":  # a shadow has earned nothing: nobody was given its answers
            found = [(row, outcomes[row.id][1]) for row in rows if not self._shadowed(row.arm, row.phase)]
            return [row._replace(value=reward) for row, reward in found if reward is not None]
        labelled = []
        for row in rows:
            label = outcomes[row.id][0]
            if label is None:
                continue
            spelled = _spelled(label) if target.kind in {"binary", "classes"} else label
            if target.kind in {"binary", "classes"} and spelled not in target.classes:
                self.counts.arms[row.arm].told.unknown += (row.id, row.arm) in met
                continue
            labelled.append((row, spelled))
        if not labelled:
            return []
        said = [orjson.loads(row.said) for row, _ in labelled]
        probability = _probabilities([row for row, _ in labelled], len(target.classes))
        found_rows = outcomes_of(target, said, probability, labels=[label for _, label in labelled])[0].rows
        values = 1 - found_rows["accuracy"] if metric == "error_rate" else found_rows[metric]
        measured = []
        for (row, _), value in zip(labelled, values.tolist(), strict=True):
            if math.isfinite(value):
                measured.append(row._replace(value=value))
            else:
                self.counts.arms[row.arm].told.unmeasured += (row.id, row.arm) in met
        return measured

    def is_due(self, now: float) -> bool:
        """Whether anything is new, and the last writing a second ago; or in the future, where the clock was set back."""
        return self._new and not 0 <= now - self._written_at < WRITE_S

    def write(self, now: float) -> None:
        """Write what was found where that is due.

        Args:
            now: The time, in seconds since 1970; infinite for the last time.

        Raises:
            RunError: The disk does not take it; it is due again.
        """
        if not self.is_due(now):
            return
        content = orjson.dumps(results(self.experiment, self.counts), option=orjson.OPT_SERIALIZE_NUMPY).decode()
        for name in ("status.json", f"{self.experiment.id}.json"):
            write_text(self._folder / name, content, durable=False)
        self._new, self._written_at = False, now if math.isfinite(now) else self._written_at

    def forget(self) -> None:
        """Forget the oldest answers and outcomes where there are too many."""
        with self._ledger.transaction():
            gone = self._ledger.forget()
        if gone:
            log.info("experiment %s: %d answers and outcomes are too old to be joined and were forgotten", self.experiment.id, gone)

    def close(self) -> None:
        """Close the file."""
        self._ledger.close()


def _sum(sums: ArmSums, rows: Iterable[AnswerRow]) -> None:
    phases: dict[int, list[AnswerRow]] = {}
    for row in rows:
        phases.setdefault(row.phase, []).append(row)
    for phase, found in phases.items():
        sums.add(phase, np.array([row.bucket for row in found]), np.array([row.value for row in found], dtype=np.float64))


def _probabilities(rows: Sequence[AnswerRow], classes: int) -> np.ndarray | None:
    if not classes or any(row.probability is None for row in rows):
        return None
    return np.stack([np.frombuffer(row.probability or b"", dtype=np.float32) for row in rows]).astype(np.float64)


def _distance(one: AnswerRow, other: AnswerRow) -> float | None:
    """Return how far two answers are from each other: half the sum of the differences of probabilities, or that of two numbers."""
    if one.probability is not None and other.probability is not None:
        first, second = (np.frombuffer(row.probability or b"", dtype=np.float32).astype(np.float64) for row in (one, other))
        return float(np.abs(first - second).sum() / 2)
    said = [orjson.loads(row.said) for row in (one, other)]
    return abs(said[0] - said[1]) if all(isinstance(value, int | float) for value in said) else None


def _is_no_number(row: AnswerRow, kind: str) -> bool:
    """Whether an answer is no finite number where it should be one: JSON has none for these but null."""
    if kind == "values":
        return any(value is None for value in np.ravel(np.array(orjson.loads(row.said), dtype=object)))
    return row.probability is not None and not np.isfinite(np.frombuffer(row.probability, dtype=np.float32)).all()


def _spelled(label: Any) -> str:
    if isinstance(label, bool):
        return "true" if label else "false"
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
