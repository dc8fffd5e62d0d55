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
        labels: How many labels met their answer.
        unknown: How many others are of no class that the model knows.
        unmeasured: Of how many the metric has no value, as an answer or an error is no finite number.
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
        self.unknown = self.unmeasured = 0
        self._rows: dict[str, np.ndarray] = {}
        self._score, self._truth = np.empty(0), np.empty(0, dtype=bool)
        self._waiting = 0  # rows at the end of score and truth that fill no block yet
        self._alarm_at: int | None = None  # how many labels had a value when the test first raised its alarm

    def update(self, found: Outcomes, unknown: int = 0) -> bool:
        """Take in labelled rows, in the order in which the labels came; return whether the test for a drop raises an alarm."""
        self.unknown += unknown
        if not len(found):
            return False
        self.labels += len(found)
        most = self._settings.window_rows
        # an answer or an error that is no finite number has no value, and would leave the sums of all later rows without one
        values = {name: rows[np.isfinite(rows)] for name, rows in found.rows.items()}
        ranked = np.isfinite(found.score)
        self.unmeasured += len(found) - (int(ranked.sum()) if self.metric == "auc" else len(values[self.metric]))
        self._rows = {name: np.concatenate([self._rows.get(name, np.empty(0)), rows])[-most:] for name, rows in values.items()}
        self._score = np.concatenate([self._score, found.score[ranked]])
        self._truth = np.concatenate([self._truth, found.truth[ranked]])
        self._waiting += int(ranked.sum())
        raised = self._tested(values)
        if raised and self._alarm_at is None:
            self._alarm_at = self._measured
        keep = max(most, self._waiting)
        self._score, self._truth = self._score[-keep:], self._truth[-keep:]
        return raised

    def _tested(self, values: Mapping[str, np.ndarray]) -> bool:
        new = slice(len(self._score) - self._waiting, None)
        self._waiting %= BLOCK
        if self.detector is None:
            return False
        if self.metric != "auc":
            return self.detector.update(values[self.metric])
        weights, areas = auc_blocks(self._score[new], self._truth[new], rows=BLOCK)
        return bool(len(weights)) and self.detector.update_sums(weights, weights * areas)

    def restart(self) -> None:
        """Test anew, as after an alarm that is over."""
        self._alarm_at = None
        if self.detector is not None:
            self.detector.restart()

    @property
    def _measured(self) -> int:
        return self.labels - self.unmeasured

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
        """Whether a whole window that came after the alarm is worse than the reference by less than half of the drop.

        A drop is found by few labels: among those before it, which were good, they would not show.
        """
        known, now = self._reference.metrics.get(self.metric), self.window.get(self.metric)
        if known is None or now is None or self._alarm_at is None or self._measured - self._alarm_at < self._settings.window_rows:
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
                "smallest_drop": smallest_drop(self._reference.metrics[self.metric], alpha=self._settings.alpha),
                "reference_rows": self._reference.rows["answers"],
            }
        return {
            "labels": self.labels,
            "labels_of_unknown_classes": self.unknown,
            "labels_without_a_value": self.unmeasured,
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
            "unmeasured": self.unmeasured,
            "alarm_at": self._alarm_at,
            "rows": {name: rows.tolist() for name, rows in self._rows.items()},
            "score": self._score.tolist(),
            "truth": self._truth.tolist(),
            "waiting": self._waiting,
            "detector": self.detector.to_json() if self.detector else None,
        }

    def load_json(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_json` returned; the test begins anew where another metric is watched now."""
        self.labels, self.unknown, self.unmeasured = state["labels"], state["unknown"], state.get("unmeasured", 0)
        self._alarm_at = state.get("alarm_at", self._measured)  # of an older version: an alarm that lasts waits for a window from here on
        self._rows = {name: np.array(rows, dtype=np.float64) for name, rows in state["rows"].items()}
        self._score, self._truth = np.array(state["score"], dtype=np.float64), np.array(state["truth"], dtype=bool)
        self._waiting = state["waiting"] % BLOCK
        if self.detector is not None and state["detector"] is not None and state["metric"] == self.metric:
            self.detector.load_json(state["detector"])
