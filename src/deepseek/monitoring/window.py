"""One window of requests: sketches of inputs and answers, and what they come to beside the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.spellings import respell
from deepseek.errors import ColumnError
from deepseek.monitoring.columns import fold
from deepseek.monitoring.reference import CONFIDENCE, ModelReference, fold_answers
from deepseek.statistics.sketch_drift import ColumnDrift, compare_sketches
from deepseek.statistics.sketches import ColumnSketch, NumberSketch

ANSWER = "answer:"
"""What the names of the answers' sketches begin with among the columns."""


class Window:
    """Rows of one stretch of time, in constant memory.

    Args:
        reference: What they are compared with.
        began: When it began, in seconds.

    Attributes:
        rows: How many rows were folded in.
        wrong: Columns that were absent, or unreadable, in some batch.
    """

    def __init__(self, reference: ModelReference, began: float) -> None:
        self.reference, self.began, self.rows = reference, began, 0
        self.wrong: set[str] = set()
        self._inputs = {name: sketch.empty() for name, sketch in reference.inputs.items()}
        self._answers = {name: sketch.empty() for name, sketch in reference.answers.items()}

    def fold(self, batch: pa.RecordBatch, said: Sequence[Any], probability: np.ndarray | None) -> None:
        """Fold in raw rows with their answers."""
        self.rows += batch.num_rows
        with suppress(ColumnError):  # a column that holds no text now: found to be wrong below
            batch = respell(batch, self.reference.spellings)
        self.wrong.update(fold(self._inputs, self.reference.kinds, batch))
        fold_answers(self._answers, said, probability)

    def drift(self) -> list[ColumnDrift]:
        """Return how far each column and the answers have moved, the worst first."""
        before = {**self.reference.inputs, **_named(self.reference.answers)} if self.reference.rows["answers"] else self.reference.inputs
        return compare_sketches(before, {**self._inputs, **_named(self._answers)})

    def facts(self, ended: float) -> dict[str, Any]:
        """Return what the window came to, as plain JSON values."""
        found = self.drift()
        return {
            "rows": self.rows,
            "began": self.began,
            "ended": ended,
            "drifted": [one.column for one in found if one.drifted],
            "wrong": sorted(self.wrong),
            "columns": [{**_plain(asdict(one)), "why": one.why} for one in found],
            "estimate": self.estimate(),
        }

    def estimate(self) -> dict[str, Any] | None:
        """Return what accuracy the rows probably have, from confidences alone; nothing where the task has no classes."""
        curve, confidences = self.reference.curve, self._answers.get(CONFIDENCE)
        if curve is None or not isinstance(confidences, NumberSketch) or not confidences.known:
            return None
        found = curve.estimate(confidences)
        return _plain({"calibrated": found.calibrated, "thresholded": found.thresholded, "rows": found.rows, "is_estimate": True})

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        sketches = {name: sketch.to_json() for name, sketch in {**self._inputs, **_named(self._answers)}.items()}
        return {"began": self.began, "rows": self.rows, "wrong": sorted(self.wrong), "sketches": sketches}

    def load_json(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_json` returned; where the reference has changed since, the window stays empty."""
        sketches = {name: ColumnSketch.from_json(one) for name, one in state["sketches"].items()}
        ours = {**self._inputs, **_named(self._answers)}
        if sketches.keys() != ours.keys() or any(sketches[name].counts.shape != one.counts.shape for name, one in ours.items()):
            return
        self.began, self.rows, self.wrong = state["began"], state["rows"], set(state["wrong"])
        self._inputs = {name: sketches[name] for name in self._inputs}
        self._answers = {name: sketches[ANSWER + name] for name in self._answers}


def _named(sketches: Mapping[str, ColumnSketch]) -> dict[str, ColumnSketch]:
    return {ANSWER + name: sketch for name, sketch in sketches.items()}


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with NaN as null and tuples as lists."""
    return {name: [_known(part) for part in one] if isinstance(one, tuple) else _known(one) for name, one in value.items()}


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
