"""What a model's answers were worth, once their labels came: the last window against the reference, and the test for a drop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepseek.errors import InputError, UnknownNameError
from deepseek.monitoring.outcomes import HIGHER, POINTS, Outcomes, Target, area
from deepseek.monitoring.reference import ModelReference
from deepseek.monitoring.settings import MonitorSettings
from deepseek.statistics.sequential import DropDetector, auc_blocks, smallest_drop

BLOCK = 200
"""Labelled rows in one block of the area under the ROC curve."""


def watched_metric(settings: MonitorSettings, target: Target) -> str:
    """Return the metric whose drop raises an alarm.

    Raises:
        InputError: Answers of this kind are not compared with labels.
        UnknownNameError: The task has no such metric.
    """
    if not target.is_comparable:
        what = f"watching compares one answer a row with its label, and the target is of kind {target.kind!r}"
        raise InputError(what, hint="leave out the section monitor; measure on labelled rows with: deepseek evaluate")
    name = {"auto": target.metrics[0], "loss": target.loss}.get(settings.metric, settings.metric)
    if name not in target.metrics:
        raise UnknownNameError("metric to watch", settings.metric, ["auto", "loss", *target.metrics])
    return name


class Performance:
    """Follows a model's metrics over labelled rows.

    Args:
        reference: What the model reached when it was made.
        settings: What is watched.

    Attributes:
        metric: The metric that is tested.
        drop: The smallest drop that matters, in the metric's unit.
        detector: Its test; nothing where the bundle was measured on no row.
    """

    def __init__(self, reference: ModelReference, settings: MonitorSettings) -> None:
        self.metric = watched_metric(settings, reference.target)
        self._reference, self._settings = reference, settings
        known = reference.metrics.get(self.metric)
        worse = "lower" if HIGHER[self.metric] else "higher"
        self.drop = settings.drop
        self.detector: DropDetector | None = None
        if known is not None:
            self.drop = settings.drop if self.metric in POINTS else settings.drop * max(known.value, 1e-12)
            if not settings.drop > 0:
                raise InputError(f"the drop to watch for is {settings.drop}", hint="it is above 0: 0.02 for two points")
            self.detector = DropDetector(known, drop=self.drop, alpha=settings.alpha, horizon=settings.horizon, worse=worse)
        self.labels = 0
        self.unknown = 0
        self._rows: dict[str, np.ndarray] = {}
        self._score, self._truth = np.empty(0), np.empty(0, dtype=bool)
        self._waiting = 0  # rows at the end of score and truth that fill no block yet

    def update(self, found: Outcomes, unknown: int = 0) -> bool:
        """Take in labelled rows, in the order in which the labels came; return whether the test for a drop raises an alarm."""
        self.unknown += unknown
        if not len(found):
            return False
        self.labels += len(found)
        most = self._settings.window_rows
        self._rows = {name: np.concatenate([self._rows.get(name, np.empty(0)), rows])[-most:] for name, rows in found.rows.items()}
        self._score = np.concatenate([self._score, found.score])
        self._truth = np.concatenate([self._truth, found.truth])
        self._waiting += len(found.score)
        raised = self._tested(found)
        keep = max(most, self._waiting)
        self._score, self._truth = self._score[-keep:], self._truth[-keep:]
        return raised

    def _tested(self, found: Outcomes) -> bool:
        if self.detector is None:
            return False
        if self.metric != "auc":
            return self.detector.update(found.rows[self.metric])
        new = slice(len(self._score) - self._waiting, None)
        weights, areas = auc_blocks(self._score[new], self._truth[new], rows=BLOCK)
        self._waiting %= BLOCK
        return bool(len(weights)) and self.detector.update_sums(weights, weights * areas)

    @property
    def window(self) -> dict[str, float]:
        """The metrics over the last labelled rows."""
        most = self._settings.window_rows
        values = {name: float(rows.mean()) for name, rows in self._rows.items() if len(rows)}
        if len(self._score) and not math.isnan(value := area(self._score[-most:], self._truth[-most:])):
            values["auc"] = value
        return values

    @property
    def recovered(self) -> bool:
        """Whether a whole window is worse than the reference by less than half of the drop."""
        known, now = self._reference.metrics.get(self.metric), self.window.get(self.metric)
        rows = len(next(iter(self._rows.values()), ()))
        if known is None or now is None or rows < self._settings.window_rows:
            return False
        lost = known.value - now if HIGHER[self.metric] else now - known.value
        return lost < self.drop / 2

    def facts(self) -> dict[str, Any]:
        """Return what is known, as plain JSON values."""
        test = None
        if self.detector is not None:
            test = {
                "metric": self.metric,
                "drop": self.drop,
                "evidence": self.detector.evidence,
                "threshold": self.detector.threshold,
                "labels": self.detector.rows,
                "guarantee": self.detector.guarantee,
                "smallest_drop": smallest_drop(known := self._reference.metrics[self.metric], alpha=self._settings.alpha),
                "reference_rows": known.rows,
            }
        return {
            "labels": self.labels,
            "labels_of_unknown_classes": self.unknown,
            "window": self.window,
            "reference": {name: one.value for name, one in self._reference.metrics.items()},
            "test": test,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        return {
            "metric": self.metric,
            "labels": self.labels,
            "unknown": self.unknown,
            "rows": {name: rows.tolist() for name, rows in self._rows.items()},
            "score": self._score.tolist(),
            "truth": self._truth.tolist(),
            "waiting": self._waiting,
            "detector": self.detector.to_json() if self.detector else None,
        }

    def load_json(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_json` returned; the test begins anew where another metric is watched now."""
        self.labels, self.unknown = state["labels"], state["unknown"]
        self._rows = {name: np.array(rows, dtype=np.float64) for name, rows in state["rows"].items()}
        self._score, self._truth = np.array(state["score"], dtype=np.float64), np.array(state["truth"], dtype=bool)
        self._waiting = state["waiting"]
        if self.detector is not None and state["detector"] is not None and state["metric"] == self.metric:
            self.detector.load_json(state["detector"])
