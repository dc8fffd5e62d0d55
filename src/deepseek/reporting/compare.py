"""The page of a comparison: runs side by side, the best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepseek.reporting.charts import Series, line
from deepseek.reporting.html import Html, element
from deepseek.reporting.numbers import ABSENT, number, percent, seconds, size
from deepseek.reporting.page import Page, Value, callout, charts, facts, heading, shortened, table

Facts = Mapping[str, Any]


def compare_page(comparison: Facts) -> str:
    """Return the page of a comparison as one HTML document.

    Args:
        comparison: What `deepseek.compare` returns.
    """
    runs = comparison["runs"]
    page = Page(f"Comparison of {len(runs)} runs", subtitle=f"the best first, by {comparison['sorted_by']}")
    page.section("Verdict", *[_verdict(pair, comparison["sorted_by"]) for pair in comparison["pairs"]])
    page.section("Metrics", *_metrics(runs, comparison["sorted_by"]))
    page.section("On the same rows", *_pairs(comparison["pairs"]), note=_PAIRS_NOTE)
    page.section("What differs", _differing(comparison["differing"], runs))
    page.section("Cost", _cost(runs))
    page.section("Learning curves", _curves(runs, comparison["sorted_by"]))
    return page.render()


_PAIRS_NOTE = (
    "Both models answered the same test rows. A difference is called distinguishable where its interval leaves out zero; the intervals are "
    "widened for all pairs of runs, among which the same rows chose the best, so that all hold together with 95 %. Means over rows: paired "
    "bootstrap. AUC: DeLong. Accuracy: McNemar's test as well. Weighted rows count by their weights in all of it; McNemar's test, which "
    "knows none, is then left out."
)


def summary(pair: Facts, metric: str) -> str:
    """Return in a sentence what a pair of runs comes to."""
    if pair.get("refused"):
        return f"{pair['best']} and {pair['other']} cannot be compared row by row: {pair['refused']}"
    sure = [entry for entry in pair["metrics"] if entry["verdict"] != "not distinguishable"]
    if not sure:
        return f"{pair['best']} is not distinguishable from {pair['other']} on {pair['rows']:,} rows{_weighing(pair)}"
    ordered = sorted(sure, key=lambda entry: entry["metric"] != metric)
    words = ", ".join(f"{entry['verdict']} in {entry['metric']} by {number(abs(entry['difference']), 3)}" for entry in ordered)
    return f"{pair['best']} against {pair['other']}: {words}{_weighing(pair)}"


def _weighing(pair: Facts) -> str:
    return f" ({pair['weights']})" if pair["weights"] else ""


def _verdict(pair: Facts, metric: str) -> Html:
    refused = bool(pair.get("refused"))
    sure = any(entry["verdict"] != "not distinguishable" for entry in pair["metrics"])
    return callout(summary(pair, metric), kind="warning" if refused else "good" if sure else "info")


def _metrics(runs: Sequence[Facts], sorted_by: str) -> list[Html]:
    parts = []
    for split in ("test", "validation"):
        measured = [run["metrics"].get(split) or {} for run in runs]
        names = list(dict.fromkeys(name for metrics in measured for name in metrics))
        names.sort(key=lambda name: name != sorted_by)
        lines = [[run["run"], run["model"], *(metrics.get(name) for name in names)] for run, metrics in zip(runs, measured, strict=True)]
        if names:
            parts += [heading(f"{split} rows"), table(["run", "model", *names], lines, sortable=True)]
    return parts


def _pairs(pairs: Sequence[Facts]) -> list[Html]:
    parts: list[Html] = []
    for pair in pairs:
        parts.append(heading(f"{pair['best']} less {pair['other']}"))
        if pair.get("refused"):
            parts.append(callout(f"No comparison row by row: {pair['refused']}.", kind="warning"))
            continue
        lines = [
            [
                entry["metric"],
                Value(f"{entry['difference']:+.5f}", entry["difference"]),
                _interval(entry),
                _p(entry),
                _bold(entry["verdict"]),
            ]
            for entry in pair["metrics"]
        ]
        weights = [("weights", pair["weights"])] if pair["weights"] else []
        parts.append(facts([("rows", pair["rows"]), *weights, *_disagreements(pair)]))
        parts.append(table(["metric", "difference", f"{percent(pair['level'], 1)} interval", "p", "the first is"], lines))
    return parts


def _disagreements(pair: Facts) -> list[tuple[str, object]]:
    tests = [entry["mcnemar"] for entry in pair["metrics"] if "mcnemar" in entry]
    return [
        (name, test[key])
        for test in tests
        for name, key in (("only the first right", "only_first"), ("only the second right", "only_second"))
    ]


def _interval(entry: Facts) -> str:
    return f"{entry['low']:+.5f} to {entry['high']:+.5f}"


def _p(entry: Facts) -> str:
    return ABSENT if entry["p"] is None else number(entry["p"], 3)


def _bold(verdict: str) -> Html:
    return element("span", verdict) if verdict == "not distinguishable" else element("b", verdict)


def _differing(differing: Sequence[Facts], runs: Sequence[Facts]) -> Html:
    lines = [[entry["key"], *(shortened(_said(value), 120) for value in entry["values"])] for entry in differing]
    return table(["key", *(run["run"] for run in runs)], lines) or callout("The resolved recipes say the same.")


def _said(value: object) -> str:
    return ABSENT if value is None else str(value)


def _cost(runs: Sequence[Facts]) -> Html:
    lines = [
        [
            run["run"],
            Value(seconds(run["training_s"]), run["training_s"]),
            Value(seconds(run["seconds"]), run["seconds"]),
            round(run["samples_per_s"]),
            run["steps"],
            run["stopped_reason"],
            run["parameters"],
            Value(size(run["size_bytes"]), run["size_bytes"]),
        ]
        for run in runs
    ]
    return table(["run", "training", "in all", "rows a second", "steps", "ended", "parameters", "bundle"], lines, sortable=True)


def _curves(runs: Sequence[Facts], metric: str) -> Html:
    drawn = []
    for name, title in ((metric, f"validation {metric}"), ("train_loss", "training loss")):
        curves = [
            Series(run["run"], [point["epoch"] for point in run["curve"]], [point[name] for point in run["curve"]])
            for run in runs
            if run["curve"] and all(name in point for point in run["curve"])
        ]
        if curves:
            drawn.append(line(curves, title=title, x_label="epoch"))
    return charts(*drawn)
