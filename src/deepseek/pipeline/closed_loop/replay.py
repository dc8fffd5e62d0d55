"""What the loop would have done on rows of the past: answered, labelled, watched and acted on in their order, with real training."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.artifacts import RunFolder
from deepseek.data.sources.base import rooted_batches
from deepseek.errors import DataError, InputError, UnknownNameError
from deepseek.inference import Predictor
from deepseek.monitoring import Watcher
from deepseek.monitoring.reference import ModelReference
from deepseek.pipeline.closed_loop.champion import SPLIT, Champion
from deepseek.pipeline.closed_loop.deployment import DeploymentStatus, Stage
from deepseek.pipeline.closed_loop.gate import Answered, goodness
from deepseek.pipeline.closed_loop.machine import Loop, truth_of
from deepseek.pipeline.closed_loop.policy import share_out
from deepseek.pipeline.closed_loop.retraining import Plan, begin_candidate, finish_candidate
from deepseek.statistics import mix64

DAY_S = 86_400.0
POINTS = 50
_LEFT_BEHIND = ("checkpoints", "export", "*.db", "*.db-*", "held.json")


class Contestant(Protocol):
    """A way to keep a model as good as it was, or not."""

    def answer(self, rows: pa.Table, *, at: np.ndarray) -> pa.Table:
        """Answer rows that came at given seconds."""

    def learn(self, rows: pa.Table, *, first: int, at: float) -> None:
        """Take in rows whose labels have come: the first one's number, and the time."""


class Never:
    """Answers with the same model for ever.

    Args:
        run: The run.
    """

    def __init__(self, run: Path) -> None:
        self._predictor = Predictor.load(run, backend="torch")

    def answer(self, rows: pa.Table, *, at: np.ndarray) -> pa.Table:
        """Answer."""
        answers: pa.Table = self._predictor.predict(rows)
        return answers

    def learn(self, rows: pa.Table, *, first: int, at: float) -> None:
        """Learn nothing."""


class Periodic:
    """Trains anew every so many rows, on the old rows and the labelled ones, and deploys what comes of it, better or not.

    Args:
        run: The run, in a folder that new ones may be made in.
        every: Labelled rows between two trainings.
    """

    def __init__(self, run: Path, *, every: int) -> None:
        self._champion = Champion.open(run)
        self._every, self._next = every, every
        self._rows: list[pa.RecordBatch] = []
        self._predictor = Predictor.load(run, backend="torch")
        self._seen = 0
        self.trainings = 0

    def answer(self, rows: pa.Table, *, at: np.ndarray) -> pa.Table:
        """Answer."""
        answers: pa.Table = self._predictor.predict(rows)
        return answers

    def learn(self, rows: pa.Table, *, first: int, at: float) -> None:
        """Train, where it is time."""
        preparation = self._champion.preparation
        names = [*preparation.columns, *preparation.schema.target]
        self._rows += [preparation.typed(batch) for batch in rows.select(names).combine_chunks().to_batches()]
        self._seen += rows.num_rows
        if self._seen < self._next:
            return
        self._next += self._every
        table = pa.Table.from_batches(self._rows).slice(max(self._seen - self._champion.then.recent.most, 0))
        parts = share_out(table.num_rows, first=0, fresh=0, holdout=0.15, validation=0.15)
        if parts is None:
            return
        self.trainings += 1
        plan = Plan(self._champion, table.append_column(SPLIT, pa.array(parts.names)), 1.0, self.trainings)
        folder = begin_candidate(plan)
        with progress.hushed():
            finish_candidate(plan, folder)
        self._predictor = Predictor.load(folder.path, backend="torch")


class MemoryDeployment:
    """Answers within this process, as a server does: a shadow is asked beside, a canary answers a share of the rows.

    Of rows that a canary answers the old model is asked too, so that the two are compared in pairs: by how often the one is better where
    they differ, with a test that may be looked at any time (a uniform mixture over the rate; Ville 1939).

    Args:
        champion: The folder of the run that is deployed.
        metric: What the models are compared by.
        alpha: Largest probability that a candidate which is as good is called worse.
    """

    staged = True

    def __init__(self, champion: Path, *, metric: str, alpha: float) -> None:
        self._folder, self._metric, self._alpha = champion.parent, metric, alpha
        self._now = self._open(champion)
        self._before: _Model | None = None
        self._new: _Model | None = None
        self._stage: Stage = "none"
        self._share = 0.0
        self._rows = self._better = self._worse = self._outcomes = 0

    def answer(self, rows: pa.Table, *, first: int) -> pa.Table:
        """Answer rows, the first one's number given: it says who answers which."""
        said: pa.Table = self._now.predictor.predict(rows)
        if self._new is None:
            return said
        other: pa.Table = self._new.predictor.predict(rows)
        mine = self._mine(first, rows.num_rows) if self._stage == "canary" else np.ones(rows.num_rows, dtype=bool)
        self._rows += int(mine.sum())
        if self._stage == "shadow":
            return said
        places = np.where(mine, np.arange(rows.num_rows) + rows.num_rows, np.arange(rows.num_rows))
        return pa.concat_tables([said, other], promote_options="default").take(pa.array(places))

    def learn(self, rows: pa.Table, *, first: int) -> None:
        """Take in rows whose labels have come."""
        if self._new is None or self._stage != "canary":
            return
        chosen = rows.filter(pa.array(self._mine(first, rows.num_rows)))
        if not chosen.num_rows:
            return
        one, two = (
            goodness(side.answered(chosen), truth_of(chosen, side.reference.target), self._metric) for side in (self._now, self._new)
        )
        self._outcomes += chosen.num_rows
        self._better += int((two > one).sum())
        self._worse += int((two < one).sum())

    def status(self) -> DeploymentStatus:
        """Return how it stands."""
        candidate = None if self._new is None else self._new.path.name
        counts = f"it was better on {self._better:,} rows and worse on {self._worse:,}"
        sure = counts if evidence(self._better, self._worse) >= 1 / self._alpha else None
        worse, better = (sure, None) if self._worse > self._better else (None, sure)
        return DeploymentStatus(
            self._now.path.name, self._stage, candidate, self._rows, outcomes=self._outcomes, worse=worse, better=better
        )

    def shadow(self, candidate: Path) -> None:
        """Ask a model beside the one that answers."""
        self._begin("shadow", candidate, 0.0)

    def share(self, candidate: Path, share: float) -> None:
        """Let a model answer a share of the rows."""
        self._begin("canary", candidate, share)

    def promote(self, candidate: Path) -> None:
        """Let a model answer all rows."""
        if self._now.path.name != candidate.name:
            self._before, self._now = self._now, self._open(candidate)
        self._end()

    def rollback(self) -> None:
        """End the stage, or take the last promotion back."""
        if self._new is None and self._before is not None:
            self._now, self._before = self._before, None
        self._end()

    def _begin(self, stage: Stage, candidate: Path, share: float) -> None:
        if self._new is None or self._new.path.name != candidate.name:
            self._end()
            self._new = self._open(candidate)
        self._stage, self._share = stage, share

    def _end(self) -> None:
        self._stage, self._new = "none", None
        self._rows = self._better = self._worse = self._outcomes = 0

    def _mine(self, first: int, count: int) -> np.ndarray:
        keys = mix64(np.arange(first, first + count).astype(np.uint64), 1)
        return np.asarray(keys.astype(np.float64) / 2.0**64 < self._share)

    def _open(self, run: Path) -> _Model:
        predictor = Predictor.load(run, backend="torch")
        return _Model(run, predictor, ModelReference.load(predictor.bundle))


def evidence(better: int, worse: int) -> float:
    """Return the evidence that of pairs which differ not half each are better: above `1 / alpha` with a probability of at most `alpha`."""
    count = better + worse
    log = math.lgamma(better + 1) + math.lgamma(worse + 1) - math.lgamma(count + 2) + count * math.log(2)
    return math.exp(min(log, 700.0))


@dataclass(frozen=True)
class _Model:
    path: Path
    predictor: Predictor
    reference: ModelReference

    def answered(self, rows: pa.Table) -> Answered:
        return Answered(self.reference.target, self.predictor.predict(rows))


class Looped:
    """Watches its answers and acts on alarms, as the run's recipe says.

    Args:
        run: The run, in a folder that new ones may be made in.
        overrides: Keys of the recipe's section `monitor`, each `PATH=VALUE`.

    Attributes:
        loop: The loop.
        rows: By the number of a line of its journal, how many rows had been answered by then.
    """

    def __init__(self, run: Path, *, overrides: tuple[str, ...] = ()) -> None:
        self._now = 0.0
        champion = Champion.open(run, overrides)
        self.loop = Loop(run, deployer=self._deploy, overrides=overrides, clock=self._clock)
        self.rows: dict[int, int] = {}
        self._watcher = self._watch(champion)
        self._first, self._count = 0, 0

    def answer(self, rows: pa.Table, *, at: np.ndarray) -> pa.Table:
        """Answer, and log what was answered."""
        self._now = float(at[-1])
        answers = self._deployment.answer(rows, first=self._count)
        ids = [str(number) for number in range(self._count, self._count + rows.num_rows)]
        self._watcher.observe(rows, answers, ids=ids, at=self._now)
        self._count += rows.num_rows
        return answers

    def learn(self, rows: pa.Table, *, first: int, at: float) -> None:
        """Log labels, and let the loop do what is to be done; rows that a model before this one answered count no more."""
        self._now = at
        self._deployment.learn(rows, first=first)
        known = rows.slice(max(self._first - first, 0))
        if known.num_rows:
            start = max(first, self._first)
            ids = [str(number) for number in range(start, start + known.num_rows)]
            self._watcher.label(ids, truth_of(known, self.loop.champion.reference.target), at=at)
        before = self.loop.champion.name
        with progress.hushed():
            events = self.loop.run()
        self.rows |= {event.seq: self._count for event in events}
        if self.loop.champion.name != before:
            self._watcher.store.close()
            self._watcher = self._watch(self.loop.champion)
            self._first = self._count

    def close(self) -> None:
        """Close the log."""
        self._watcher.store.close()

    def _watch(self, champion: Champion) -> Watcher:
        return Watcher(champion.bundle, champion.store(), settings=champion.settings, clock=self._clock)

    def _deploy(self, champion: Champion) -> MemoryDeployment:
        self._deployment = MemoryDeployment(champion.path, metric=champion.metric, alpha=champion.then.alpha)
        return self._deployment

    def _clock(self) -> float:
        return self._now


@dataclass
class Score:
    """How good a contestant's answers were.

    Attributes:
        right: Row by row, higher for better.
    """

    right: list[np.ndarray] = field(default_factory=list)

    @property
    def rows(self) -> np.ndarray:
        """All rows, in order."""
        return np.concatenate(self.right) if self.right else np.empty(0)


def play(
    table: pa.Table,
    contestants: Mapping[str, Contestant],
    *,
    answered: Callable[[pa.Table, pa.Table], np.ndarray],
    labels_after: int,
    rows_a_day: float,
    batch_rows: int,
) -> dict[str, np.ndarray]:
    """Put rows to contestants in their order; each batch is answered before any of its labels is known.

    Args:
        table: The rows with their truth, the oldest first.
        contestants: By name.
        answered: Returns row by row how good answers are, of the rows and the answers.
        labels_after: Rows after which a row's label comes.
        rows_a_day: What the clock goes by.
        batch_rows: Rows that come together.

    Returns:
        Row by row how good the answers were, by contestant.
    """
    scores = {name: Score() for name in contestants}
    told = 0
    for start in range(0, table.num_rows, batch_rows):
        rows = table.slice(start, batch_rows)
        at = (start + 1 + np.arange(rows.num_rows)) * (DAY_S / rows_a_day)
        due = max(start + rows.num_rows - labels_after, told)
        for name, one in contestants.items():
            scores[name].right.append(answered(rows, one.answer(rows, at=at)))
            if due > told:
                one.learn(table.slice(told, due - told), first=told, at=float(at[-1]))
        told = due
    return {name: score.rows for name, score in scores.items()}


def replay(
    run: str | PathLike[str],
    source: Any,
    *,
    labels_after: int = 0,
    rows_a_day: float = 1_000.0,
    batch_rows: int = 50,
    retrain_every: int | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Say what the loop would have done on rows of the past, and what it would have been worth; the run's own folder stays as it is.

    The rows are answered in their order, labels come later, the watch raises alarms, and models are trained, judged and deployed as the
    recipe says under `monitor.on_alarm`, all in memory and with a clock that goes by rows; training takes no time on it.

    Args:
        run: The run that would have been deployed.
        source: The rows with their target, the oldest first: a path or a table.
        labels_after: Rows after which a row's label comes.
        rows_a_day: How many rows stand for a day: `cooldown`, `silence` and the like go by it.
        batch_rows: Rows that come together.
        retrain_every: Labelled rows after which a contestant is trained anew whatever happens, to compare with; none where not given.
        overrides: Keys of the recipe's section `monitor`, each `PATH=VALUE`.

    Returns:
        `rows`; `accuracy` by contestant (`loop`, `never`, `no_change`, `periodic`), or `loss` where there are no classes; `rounds`, each
        with the rows at which it began and ended and why; and `curve`, the same in up to 50 stretches.

    Raises:
        InputError: The recipe says nothing of a loop, or a number is out of range.
        DataError: There is no row.
    """
    if labels_after < 0 or batch_rows < 1 or not rows_a_day > 0:
        raise InputError(
            f"labels_after is {labels_after}, batch_rows {batch_rows}, rows_a_day {rows_a_day}", hint="0 or more, 1 or more, above 0"
        )
    champion = Champion.open(Path(run), tuple(overrides))
    table, target = _rows(champion, source), champion.reference.target
    metric = "accuracy" if target.kind in {"binary", "classes", "labels"} else target.loss

    def answered(rows: pa.Table, answers: pa.Table) -> np.ndarray:
        return goodness(Answered(target, answers), truth_of(rows, target), metric)

    with copied(champion, ["loop", "periodic"]) as copies:
        looped = Looped(copies["loop"], overrides=tuple(overrides))
        contestants: dict[str, Contestant] = {"loop": looped, "never": Never(champion.path)}
        if retrain_every is not None:
            contestants["periodic"] = Periodic(copies["periodic"], every=retrain_every)
        scores = play(table, contestants, answered=answered, labels_after=labels_after, rows_a_day=rows_a_day, batch_rows=batch_rows)
        looped.close()
        rounds = rounds_in_rows(looped)
    if metric == "accuracy" and target.kind != "labels":
        truth = truth_of(table, target)
        scores["no_change"] = np.array([False, *(one == two for one, two in pairwise(truth))], dtype=np.float64)
    sign = 1.0 if metric == "accuracy" else -1.0
    word = "accuracy" if metric == "accuracy" else "loss"
    return {
        "run": str(champion.path),
        "rows": table.num_rows,
        "metric": metric,
        word: {name: sign * float(rows.mean()) for name, rows in scores.items()},
        "rounds": rounds,
        "curve": curve_of({name: sign * rows for name, rows in scores.items()}),
    }


def rounds_in_rows(looped: Looped) -> list[dict[str, Any]]:
    """Return the rounds of a replay, each with the rows at which it began and came to its end."""
    found = []
    for one in looped.loop.journal.rounds:
        last = [event for event in one.events if event.state != "told"][-1]
        found.append(
            {
                "round": one.number,
                "state": one.state,
                "why": last.why,
                "began_at_row": looped.rows[one.events[0].seq],
                "at_row": looped.rows[last.seq],
                "alarm": one.events[0].why,
                "verdict": one.fact("verdict"),
            }
        )
    return found


def curve_of(scores: Mapping[str, np.ndarray], points: int = POINTS) -> list[dict[str, float]]:
    """Return means over stretches of rows, each with the row at which it ends."""
    rows = len(next(iter(scores.values())))
    ends = np.unique(np.linspace(0, rows, min(points, rows) + 1).astype(int)).tolist()
    return [{"row": end, **{name: float(values[start:end].mean()) for name, values in scores.items()}} for start, end in pairwise(ends)]


@contextmanager
def copied(champion: Champion, names: Sequence[str]) -> Iterator[dict[str, Path]]:
    """Give copies of a run in folders of their own, in which others may be made; they disappear afterwards."""
    with tempfile.TemporaryDirectory(prefix="deepseek-replay-") as folder:
        copies = {}
        for name in names:
            target = Path(folder) / name / "runs" / champion.path.parent.name / champion.name
            shutil.copytree(champion.path, target, ignore=shutil.ignore_patterns(*_LEFT_BEHIND))
            RunFolder(target).release()
            copies[name] = target
        yield copies


def _rows(champion: Champion, source: Any) -> pa.Table:
    opened = Predictor.load(champion.path, backend="torch").open(source).as_text(champion.preparation.text_columns)
    names = opened.schema().names
    for name in (*champion.preparation.columns, *champion.preparation.schema.target):
        if name not in names:
            raise UnknownNameError("column", name, names)
    batches = list(rooted_batches(opened.read(), opened.root))
    table = pa.Table.from_batches(batches) if batches else None
    if table is None or not table.num_rows:
        raise DataError("there is no row to replay", hint="give rows with their target, the oldest first")
    known = np.array([label is not None for label in truth_of(table, champion.reference.target)])
    return table if known.all() else table.filter(pa.array(known))
