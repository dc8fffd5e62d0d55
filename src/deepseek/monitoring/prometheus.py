"""What the watch knows, in the text format that Prometheus reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

METRICS: dict[str, tuple[str, str]] = {
    "deepseek_monitor_rows_total": ("counter", "Rows that were answered and watched."),
    "deepseek_monitor_repeated_rows_total": ("counter", "Rows whose ids had come before, and which were not counted again."),
    "deepseek_monitor_labels_total": ("counter", "Answers whose truth has come."),
    "deepseek_monitor_window_rows": ("gauge", "Rows in the last window."),
    "deepseek_monitor_window_end_timestamp_seconds": ("gauge", "When the last window ended."),
    "deepseek_monitor_drift_psi": ("gauge", "Population stability index of a column in the last window."),
    "deepseek_monitor_drift_probability": ("gauge", "Adjusted probability of so much difference without any drift."),
    "deepseek_monitor_drifted": ("gauge", "Whether a column has drifted, surely and enough to matter."),
    "deepseek_monitor_missing_ratio": ("gauge", "Share of missing values of a column in the last window."),
    "deepseek_monitor_metric": ("gauge", "A metric over the last labelled rows."),
    "deepseek_monitor_metric_reference": ("gauge", "The same metric when the model was made."),
    "deepseek_monitor_accuracy_estimate": ("gauge", "Accuracy estimated without labels, by method: an estimate."),
    "deepseek_monitor_drop_evidence_ratio": ("gauge", "Evidence for a drop, as a share of the threshold that raises an alarm."),
    "deepseek_monitor_alarm": ("gauge", "Whether an alarm is raised."),
}
"""Every metric that is exported: its type and what it is."""


def metrics_text(*states: Mapping[str, Any]) -> str:
    """Return what `Watcher.check` returned as metrics: the text exposition format 0.0.4.

    Args:
        states: What the watch knows of each model. Where several have the same `model`, a `version` tells them apart.
    """
    samples: dict[str, list[str]] = {}
    for state in states:
        which = {name: state[name] for name in ("model", "version") if name in state}
        for name, labels, value in _samples(state):
            if value is not None and not math.isnan(value):
                samples.setdefault(name, []).append(f"{name}{_labels({**which, **labels})} {_number(value)}")
    lines = []
    for name, (kind, text) in METRICS.items():
        if name in samples:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *samples[name]]
    return "\n".join(lines) + "\n"


def _samples(state: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str], float | None]]:
    yield "deepseek_monitor_rows_total", {}, state["rows"]
    yield "deepseek_monitor_repeated_rows_total", {}, state.get("repeated")
    performance = state["performance"]
    yield "deepseek_monitor_labels_total", {}, performance["labels"]
    for name, value in performance["window"].items():
        yield "deepseek_monitor_metric", {"metric": name}, value
    for name, value in performance["reference"].items():
        yield "deepseek_monitor_metric_reference", {"metric": name}, value
    if test := performance["test"]:
        yield "deepseek_monitor_drop_evidence_ratio", {"metric": test["metric"]}, test["evidence"] / test["threshold"]
    for name in state["alarms"]:
        yield "deepseek_monitor_alarm", {"alarm": name}, 1
    if window := state["last_window"]:
        yield from _window_samples(window)


def _window_samples(window: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str], float | None]]:
    yield "deepseek_monitor_window_rows", {}, window["rows"]
    yield "deepseek_monitor_window_end_timestamp_seconds", {}, window["ended"]
    for column in window["columns"]:
        labels = {"column": column["column"]}
        yield "deepseek_monitor_drift_psi", labels, column["psi"]
        yield "deepseek_monitor_drift_probability", labels, column["adjusted_p"]
        yield "deepseek_monitor_drifted", labels, column["column"] in window["drifted"]
        yield "deepseek_monitor_missing_ratio", labels, column["missing"][1]
    for method in ("calibrated", "thresholded") if window["estimate"] else ():
        yield "deepseek_monitor_accuracy_estimate", {"method": method}, window["estimate"][method]


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ("+Inf" if value > 0 else "-Inf")
