"""How accurate a model probably is on rows without labels, from how sure it is: estimates, which a shift of another kind defeats.

They hold where only the mix of rows has changed (covariate shift) and the relation of inputs and answers is as it was. Where that relation
itself has changed a model is wrong and just as sure as before, and no estimate without labels can see it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from deepseek.errors import InputError
from deepseek.statistics.sketches import NumberSketch
from deepseek.statistics.two_sample import quantile_edges

BINS = 20


@dataclass(frozen=True, slots=True)
class AccuracyEstimate:
    """What accuracy rows without labels probably have: an estimate, not a measurement.

    Attributes:
        calibrated: Mean of what rows of like confidence reached on validation rows (confidence-based performance estimation).
        thresholded: Share of rows above the average-threshold-confidence limit.
        rows: How many rows were looked at.
    """

    calibrated: float
    thresholded: float
    rows: int


@dataclass(frozen=True)
class ConfidenceCurve:
    """What rows of each confidence reached on validation rows, in bins of a fixed number.

    Attributes:
        edges: Inner edges of the bins; the limit of average-threshold confidence is one of them.
        accuracy: Share of right answers in each bin, `[edges + 1]`.
        limit: Confidence such that as many validation rows lie below it as were answered wrong; NaN where all lie on one side.
    """

    edges: np.ndarray
    accuracy: np.ndarray
    limit: float

    @classmethod
    def fit(cls, confidence: np.ndarray, right: np.ndarray) -> Self:
        """Learn the curve from rows that the model was not trained on.

        Args:
            confidence: Probability of the predicted class, `[n]`.
            right: bool `[n]`: whether it was the true one.

        Raises:
            InputError: There is no row.
        """
        if not len(confidence):
            raise InputError("no row has a label", hint="measure on validation rows")
        given = confidence.astype(np.float64)
        wrong = int((~right).sum())
        limit = float(np.sort(given)[wrong]) if 0 < wrong < len(given) else math.nan
        edges = np.unique(np.r_[quantile_edges(given, BINS), [] if math.isnan(limit) or limit <= given.min() else limit])
        place = np.searchsorted(edges, given, side="right")
        rows = np.bincount(place, minlength=len(edges) + 1)
        good = np.bincount(place, right.astype(np.float64), minlength=len(edges) + 1)
        # a bin of few rows leans on the whole: one row's worth of the overall accuracy
        return cls(edges, (good + right.mean()) / (rows + 1), limit)

    def sketch(self) -> NumberSketch:
        """Return an empty sketch to fold confidences into."""
        return NumberSketch(self.edges)

    def estimate(self, confidences: NumberSketch) -> AccuracyEstimate:
        """Estimate the accuracy of rows from the sketch of their confidences.

        By calibration: Guo et al., "On calibration of modern neural networks" (ICML 2017) and the use that NannyML's confidence-based
        performance estimation makes of it. By a threshold: Garg et al., "Leveraging unlabeled data to predict out-of-distribution
        performance" (ICLR 2022), where the share of rows above the validation rows' limit is the accuracy.

        Raises:
            InputError: The sketch has other bins.
        """
        if not np.array_equal(confidences.edges, self.edges):
            raise InputError("the sketch of confidences has other bins", hint="make it by ConfidenceCurve.sketch()")
        rows = confidences.known
        if not rows:
            return AccuracyEstimate(math.nan, math.nan, 0)
        calibrated = float(confidences.counts @ self.accuracy) / rows
        if math.isnan(self.limit):
            return AccuracyEstimate(calibrated, math.nan, rows)
        above = np.searchsorted(self.edges, self.limit, side="right")
        return AccuracyEstimate(calibrated, float(confidences.counts[above:].sum()) / rows, rows)

    def to_json(self) -> dict[str, Any]:
        """Return the curve as plain JSON values, exactly."""
        limit = None if math.isnan(self.limit) else self.limit
        return {"edges": self.edges.tolist(), "accuracy": self.accuracy.tolist(), "limit": limit}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the curve that `to_json` wrote."""
        limit = math.nan if value["limit"] is None else float(value["limit"])
        return cls(np.array(value["edges"], dtype=np.float64), np.array(value["accuracy"], dtype=np.float64), limit)
