"""A deployment within one process: what a replay answers with in the place of a server."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from deepseek.inference import Predictor
from deepseek.monitoring.reference import ModelReference
from deepseek.pipeline.closed_loop.deployment import DeploymentStatus, Stage
from deepseek.pipeline.closed_loop.gate import Answered, goodness, truth_of
from deepseek.statistics import mix64


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
