"""The gate of exports in fewer bits: what the monitored metric loses on rows that were not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepseek.errors import ExportError
from deepseek.exporters.original import Original
from deepseek.inference.predictor import Predictor

MAX_DROP: Mapping[str, float] = {"bf16": 0.001, "int8": 0.005}
"""How much of a metric an export in fewer bits may lose: a tenth and a half of a point; of a metric without bound, of its value."""


def drop_of(original: Original, candidate: Predictor, *, allowed: float) -> dict[str, Any]:
    """Return what an export loses of the metric that the task is monitored by.

    Args:
        original: What was exported.
        candidate: The export.
        allowed: How much it may lose.

    Returns:
        The metric's `name`, its value for the `original` and for what was `exported`, how much was `lost`, how much is `allowed`, and
        which `split` of the run the rows are, where they are its own.

    Raises:
        InputError: The rows have no target to measure by.
    """
    task = original.predictor.task
    metric = task.metrics()[task.monitor]
    before, after = original.metric, original.metric_of(candidate)
    bounded = task.target.kind != "values"
    lost = (before - after if metric.higher_is_better else after - before) / (1.0 if bounded else max(abs(before), 1e-12))
    return {"name": task.monitor, "original": before, "exported": after, "lost": lost, "allowed": allowed, "split": original.split}


def passes(drop: Mapping[str, Any]) -> bool:
    """Whether no more was lost than is allowed; a metric that is no number does not pass."""
    return bool(drop["lost"] <= drop["allowed"])


def require_metric(original: Original, candidate: Predictor, precision: str) -> dict[str, Any]:
    """Return what `drop_of` does, and refuse a candidate that lost more of the metric than its precision may.

    Args:
        original: What was exported.
        candidate: The export.
        precision: The type of its arithmetic.

    Raises:
        ExportError: It lost more.
        InputError: The rows have no target to measure by.
    """
    drop = drop_of(original, candidate, allowed=MAX_DROP[precision])
    if not passes(drop):
        raise ExportError(
            f"in {precision} {said(drop)}; allowed are {100 * drop['allowed']:g}",
            hint="nothing was kept; export in fp32, or measure on more rows: of few, one changed answer is a larger part",
        )
    return drop


def said(drop: Mapping[str, Any]) -> str:
    """Return what was lost in words."""
    return f"{drop['name']} goes from {drop['original']:.5g} to {drop['exported']:.5g}, which is {100 * drop['lost']:.3g} points"
