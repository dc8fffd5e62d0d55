"""What the loop would have done on rows of the past: answered, labelled, watched and acted on in their order, with real training."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.artifacts import RunFolder
from deepseek.data.sources.base import rooted_batches
from deepseek.errors import DataError, InputError, UnknownNameError
from deepseek.inference import Predictor
from deepseek.pipeline.closed_loop.champion import Champion
from deepseek.pipeline.closed_loop.contestants import Contestant, Looped, Never, Periodic
from deepseek.pipeline.closed_loop.gate import Answered, goodness, truth_of

DAY_S = 86_400.0
POINTS = 50
_LEFT_BEHIND = ("checkpoints", "export", "*.db", "*.db-*", "held.json")


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
        `rows`, and how many others were left out as `unlabelled`; `accuracy` by contestant (`loop`, `never`, `no_change`, `periodic`), or
        `loss` where there are no classes; `rounds`, each with the rows at which it began and ended and why; and `curve`, the same in up to
        50 stretches.

    Raises:
        InputError: The recipe says nothing of a loop, or a number is out of range.
        DataError: There is no row.
    """
    bounds = (("labels_after", labels_after, labels_after >= 0, "0 or more"), ("batch_rows", batch_rows, batch_rows >= 1, "1 or more"))
    for name, value, right, allowed in (*bounds, ("rows_a_day", rows_a_day, rows_a_day > 0, "above 0")):
        if not right:
            raise InputError(f"{name} is {value:,}", hint=f"it is {allowed}")
    champion = Champion.open(Path(run), tuple(overrides))
    (table, unlabelled), target = _rows(champion, source), champion.reference.target
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
        "unlabelled": unlabelled,
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


def _rows(champion: Champion, source: Any) -> tuple[pa.Table, int]:
    """Return the rows whose truth is known, and how many others there are."""
    opened = Predictor.load(champion.path, backend="torch").open(source).as_text(champion.preparation.text_columns)
    names = opened.schema().names
    for name in (*champion.preparation.columns, *champion.preparation.schema.target):
        if name not in names:
            raise UnknownNameError("column", name, names)
    batches = list(rooted_batches(opened.read(), opened.root))
    table = pa.Table.from_batches(batches) if batches else opened.schema().empty_table()
    known = np.array([label is not None for label in truth_of(table, champion.reference.target)], dtype=bool)
    if not known.any():
        raise DataError(
            f"there is no row to replay: of {table.num_rows:,} none has a label", hint="give rows with their target, the oldest first"
        )
    return table if known.all() else table.filter(pa.array(known)), int((~known).sum())
