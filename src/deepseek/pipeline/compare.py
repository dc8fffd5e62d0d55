"""Runs side by side: metrics, what differs in their recipes, and whether the better one is better or luckier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from deepseek.artifacts import write_text
from deepseek.errors import InputError
from deepseek.models.network import parameter_count
from deepseek.pipeline.analysis.finished import FinishedRun
from deepseek.pipeline.analysis.paired import RunPredictions, compare_paired, predict_test_rows, rows_mismatch
from deepseek.recipe import AUTO
from deepseek.registry import family
from deepseek.reporting.compare import compare_page

SURE = 0.05
"""The chance that any of the intervals of a comparison misses, however many runs are compared with the best."""
_COPIED = ("metrics", "seconds", "training_s", "samples_per_s", "steps", "stopped_reason")
_UNLIKE = ("name",)
"""Keys of a recipe in which runs may differ without being different."""


def compare(runs: Sequence[str | PathLike[str]], *, output: str | PathLike[str] | None = None, metric: str | None = None) -> dict[str, Any]:
    """Put finished runs side by side, the best first, and say whether their differences can be told from chance.

    Where runs were tested on the same rows, their models are asked again and compared row by row: chance that moves both moves neither
    against the other, so that far smaller differences show than two separate intervals would. Where the rows are not the same, it is said
    and no such comparison is made.

    Args:
        runs: At least two runs' folders, bundles, or names (then the newest run).
        output: An HTML file for the same with curves; an existing one is replaced.
        metric: What the runs are sorted by; what they were trained to monitor where not given.

    Returns:
        Plain JSON values: `sorted_by`, `runs` (the best first: metrics, seconds, parameters, size), `differing` (keys of the recipes), and
        `pairs` (the best against each other run).

    Raises:
        InputError: There are fewer than two runs, one is not finished, or no run has the metric.
        BundleError: There is no such run.

    Example:
        ```python
        found = deepseek.compare(["runs/churn/001", "runs/churn/002"])
        print(found["pairs"][0]["metrics"])
        ```
    """
    if isinstance(runs, str | PathLike) or len(runs) < 2:
        raise InputError(f"there is one run to compare: {runs!r}" if runs else "there is no run to compare", hint="name at least two")
    opened = [FinishedRun.open(Path(fspath(run))) for run in runs]
    if len({run.folder.path.resolve() for run in opened}) < len(opened):
        raise InputError("a run is named twice", hint="name each once; a run's name stands for the newest one in it")
    key = metric or _monitor(opened)
    ordered = _sorted(opened, key)
    names = _names(ordered)
    facts = {
        "sorted_by": key,
        "runs": [_facts(run, name) for run, name in zip(ordered, names, strict=True)],
        "differing": _differing(ordered),
        "pairs": _pairs(ordered, names),
    }
    if output is not None:
        write_text(Path(output), compare_page(facts))
    return facts


def _names(runs: Sequence[FinishedRun]) -> list[str]:
    """Return the ends of the runs' folders: `NAME/NNN`, and as much before it as tells them apart."""
    parts = [run.folder.path.resolve().parts for run in runs]
    kept = next(kept for kept in range(2, max(map(len, parts)) + 1) if len({each[-kept:] for each in parts}) == len(parts))
    return [Path(*each[-kept:]).as_posix() for each in parts]


def _value(run: FinishedRun, metric: str) -> float:
    """Return the metric on test rows, or on validation rows where there are none; NaN where it was not computed."""
    split = "test" if run.outcome["metrics"].get("test") else "validation"
    found = (run.outcome["metrics"].get(split) or {}).get(metric)
    return math.nan if found is None else float(found)


def _facts(run: FinishedRun, name: str) -> dict[str, Any]:
    model: Any = run.resolved.model
    return {
        "run": name,
        "folder": str(run.folder.path),
        "model": model["type"],
        **{key: run.outcome[key] for key in _COPIED},
        "parameters": parameter_count(run.model()),
        "size_bytes": sum(file.stat().st_size for file in run.bundle.path.rglob("*") if file.is_file()),
        "curve": [event["metrics"] for event in run.events() if event.get("event") == "validation"],
    }


def _monitor(runs: Sequence[FinishedRun]) -> str:
    """Return what the runs were trained to monitor, or their task's usual metric where they monitored different ones."""
    monitored = {run.resolved.train.monitor for run in runs}
    tasks: list[Any] = [run.resolved.task for run in runs]
    usual = [str(family("task").get(task["type"]).monitor) for task in tasks]
    given = monitored.pop()
    return usual[0] if monitored or given == AUTO else str(given)


def _sorted(runs: Sequence[FinishedRun], metric: str) -> list[FinishedRun]:
    known = sorted({name for run in runs for metrics in run.outcome["metrics"].values() for name in metrics or ()})
    if metric not in known:
        raise InputError(f"no run has the metric {metric!r}", hint=f"they have {', '.join(known)}")
    sign = -1.0 if _higher_is_better(metric) else 1.0
    return sorted(runs, key=lambda run: (math.isnan(_value(run, metric)), sign * _value(run, metric)))


def _higher_is_better(metric: str) -> bool:
    """Say which way a metric counts; that of one target, `rmse_TARGET`, counts as the metric itself."""
    metrics = family("metric")
    of_target = [name for name in metrics.names() if metric.startswith(f"{name}_")]
    name = metric if metric in metrics.names() or not of_target else max(of_target, key=len)
    return bool(metrics.get(name).higher_is_better)


def _differing(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """Return the keys in which the resolved recipes differ, each with its values in the order of the runs."""
    flat = [_flat(run.resolved.to_value(), "") for run in runs]
    keys = sorted({key for values in flat for key in values})
    found = []
    for key in keys:
        values = [values.get(key) for values in flat]
        if key not in _UNLIKE and any(value != values[0] for value in values[1:]):
            found.append({"key": key, "values": values})
    return found


def _flat(value: Any, path: str) -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {key: part for name, inner in value.items() for key, part in _flat(inner, f"{path}.{name}" if path else str(name)).items()}
    return {path: value}


def _pairs(runs: Sequence[FinishedRun], names: Sequence[str]) -> list[dict[str, Any]]:
    """Compare the best run with each other one; the intervals are wider the more there are, so that all of them hold together."""
    answers = [predict_test_rows(run) for run in runs]
    best, level = answers[0], family_level(len(runs))
    found: list[dict[str, Any]] = []
    for name, other in zip(names[1:], answers[1:], strict=True):
        pair = {"best": names[0], "other": name}
        reason = _refusal(names[0], best, name, other)
        if reason or isinstance(best, str) or isinstance(other, str):
            found.append(pair | {"refused": reason, "metrics": []})
        else:
            found.append(pair | compare_paired(best, other, level=level))
    return found


def family_level(runs: int) -> float:
    """Return the level of each interval of so many runs, 2 or more, at which the differences of all pairs hold together.

    Only those to the best run are told of, but which run is best is read off the same rows: its lead over the last one is the largest of
    all pairs, so all pairs count (Bonferroni; compare Tukey's range test, against Dunnett's for a control that is named beforehand).
    """
    return 1 - SURE / math.comb(runs, 2)


def _refusal(name: str, best: RunPredictions | str, other_name: str, other: RunPredictions | str) -> str | None:
    for run, answers in ((name, best), (other_name, other)):
        if isinstance(answers, str):
            return f"{run}: {answers}"
    assert isinstance(best, RunPredictions)
    assert isinstance(other, RunPredictions)
    return rows_mismatch(best, other)
