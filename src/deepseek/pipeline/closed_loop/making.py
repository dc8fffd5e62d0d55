"""The models of a round: made of its rows with each share of old ones, resumed after a kill, and the better one chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.artifacts import RunFolder, plain_disk_errors
from deepseek.errors import DeepSeekError
from deepseek.inference import Predictor
from deepseek.inference.backends.choice import MEASURED, SERVED, is_measured
from deepseek.monitoring.reference import ModelReference
from deepseek.pipeline.closed_loop.champion import SPLIT, Champion
from deepseek.pipeline.closed_loop.gate import Answered, goodness, truth_of
from deepseek.pipeline.closed_loop.journal import Event, Round
from deepseek.pipeline.closed_loop.retraining import Plan, begin_candidate, finish_candidate, write_table
from deepseek.pipeline.export import SAME, export
from deepseek.recipe import AUTO

WORK = ".loop"
"""The folder beside the runs of a name in which rounds keep their rows."""
ATTEMPTS = 3
"""So often may a process die in the same training."""


class Workshop:
    """Keeps the rows of rounds, and makes their models.

    Args:
        folder: The folder of the runs of a name.
        write: Writes the next line of a round: its state, why, and facts.
    """

    def __init__(self, folder: Path, write: Callable[[Round, str, str, Mapping[str, Any]], Event]) -> None:
        self._folder, self._write = folder, write

    def keep(self, current: Round, rows: pa.Table) -> None:
        """Keep the rows of a round.

        Args:
            current: The round.
            rows: Rows of production, with the column `deepseek_split`.

        Raises:
            RunError: The disk refuses.
        """
        path = self._rows_file(current)
        with plain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, rows)

    def rows(self, current: Round) -> pa.Table:
        """Return the rows that `keep` has kept."""
        with plain_disk_errors(path := self._rows_file(current)), pa.memory_map(str(path)) as file:
            return pa.ipc.open_file(file).read_all()

    def candidate(self, current: Round) -> Path:
        """Return the folder of the run that a round has chosen."""
        return self._folder / str(current.fact("candidate"))

    def make(self, current: Round, champion: Champion) -> Event:
        """Make the next model of a round, or choose where all are made; return the line that was written.

        Args:
            current: The round.
            champion: The model that is deployed.
        """
        keep = champion.then.keep_old
        shares = [1.0, 0.0] if keep == AUTO else [float(keep)]
        made = {event.facts["keep_old"]: event.facts for event in current.latest if event.state == "made"}
        share = next((share for share in shares if share not in made), None)
        if share is None:
            return self._choose(current, made, champion)
        tries = [event for event in current.latest if event.state == "training" and event.facts["keep_old"] == share]
        if len(tries) >= ATTEMPTS:
            why = f"the process died in it {len(tries)} times"
            return self._write(current, "made", f"no model: {why}", {"keep_old": share, "run": tries[-1].facts["run"], "error": why})
        plan = Plan(champion, self.rows(current), share, current.number)
        if current.state == "training":  # of this share, as each training ends with a line of its own
            return self._finish(current, plan, RunFolder(self._folder / tries[-1].facts["run"]), attempt=len(tries) + 1)
        try:
            folder = begin_candidate(plan)
        except DeepSeekError as error:
            return self._write(current, "made", f"no model: {error.message}", {"keep_old": share, "run": None, "error": error.message})
        return self._finish(current, plan, folder, attempt=1)

    def _finish(self, current: Round, plan: Plan, folder: RunFolder, *, attempt: int) -> Event:
        facts = {"keep_old": plan.keep_old, "run": folder.path.name}
        self._write(current, "training", f"with {plan.keep_old:.0%} of the old rows, attempt {attempt}", {**facts, "attempt": attempt})
        try:
            finish_candidate(plan, folder)
            score = score_of(folder.path, plan.fresh)
        except DeepSeekError as error:
            return self._write(current, "made", f"no model: {error.message}", {**facts, "error": error.message})
        except Exception as error:  # noqa: BLE001 - plugins, PyTorch and its compilers are foreign code
            return self._write(current, "made", f"no model: {error!r}", {**facts, "error": repr(error)})
        return self._write(current, "made", f"a model whose validation loss on fresh rows is {-score:.4g}", {**facts, "score": score})

    def _choose(self, current: Round, made: Mapping[float, Mapping[str, Any]], champion: Champion) -> Event:
        good = [facts for facts in made.values() if "score" in facts]
        if not good:
            return self._write(current, "failed", "; ".join(str(facts["error"]) for facts in made.values()), {})
        best = max(good, key=lambda facts: facts["score"])
        if is_measured(champion.bundle):
            _run_in_the_fastest_form(self._folder / best["run"])
        why = f"with {best['keep_old']:.0%} of the old rows" + (", better on fresh validation rows" if len(good) > 1 else "")
        return self._write(current, "trained", why, {"candidate": best["run"], "keep_old": best["keep_old"]})

    def _rows_file(self, current: Round) -> Path:
        return self._folder / WORK / f"{current.number:03d}" / "fresh.arrow"


def _run_in_the_fastest_form(run: Path) -> None:
    """Give a candidate what its champion has, or it would be compared while it runs in a slower form."""
    try:
        export(run, to={"type": MEASURED, SAME: True}, output=run / "export" / SERVED)
    except DeepSeekError as error:
        progress.log(f"{run} runs in PyTorch: {error.message}")


def answers_of(run: Path, rows: pa.Table) -> Answered:
    """Return what a run's model says of rows."""
    predictor = Predictor.load(run, backend="torch")
    return Answered(ModelReference.load(predictor.bundle).target, predictor.predict(rows))


def score_of(run: Path, rows: pa.Table) -> float:
    """Return how good a run's model is on those rows of a round that validate: its mean loss, below 0; higher is better."""
    chosen = part_of(rows, "validation")
    answered = answers_of(run, chosen)
    return float(goodness(answered, truth_of(chosen, answered.target), answered.target.loss).mean())


def part_of(fresh: pa.Table, name: str) -> pa.Table:
    """Return the rows of one split, `train`, `validation` or `test`, without the column that says so."""
    return fresh.filter(pa.array(np.array(fresh.column(SPLIT).to_pylist()) == name)).drop_columns([SPLIT])
