"""The page of a search: how it went, what the best trial tried, and what made trials good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepseek.reporting.charts import Bar, Marker, Series, bars, line, scatter
from deepseek.reporting.html import Html
from deepseek.reporting.numbers import number, seconds
from deepseek.reporting.page import Page, Tile, Value, charts, table, tiles

_SLICES = 12
"""Parameters that are drawn; the most important ones."""


def render(facts: Mapping[str, Any]) -> str:
    """Return a search's page.

    Args:
        facts: What a search's `tune.json` holds.
    """
    trials, metric, best = facts["trials"], facts["metric"], facts["best"]
    states = [row["state"] for row in trials]
    counted = ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed") if state in states)
    told = [
        ("trials", counted),
        ("search", facts["search"]["type"]),
        ("pruner", facts["pruner"]["type"]),
        ("time", seconds(facts["seconds"])),
    ]
    page = Page(f"Tuning {facts['name']}", subtitle=f"{metric} on validation rows, {facts['direction']}d", facts=told)
    page.section("Result", tiles(_figures(facts)), _splits(facts["metrics"]))
    page.section("The best trial", _chosen(facts, best))
    page.section("Course", _history(trials, metric, facts["direction"]))
    page.section("What made trials good", _importance(facts["importance"]), charts(*_slices(facts)))
    page.section("All trials", _table(trials, metric, list(facts["space"])), note="Trial 0 is the recipe as it was.")
    return page.render()


def _figures(facts: Mapping[str, Any]) -> list[Tile]:
    best, gain = facts["best"], facts["gain"]
    figures = [Tile(f"best {facts['metric']}", best["value"], f"trial {best['number']}, validation rows")]
    default = next((row["value"] for row in facts["trials"] if row["number"] == 0), None)
    if default is not None:
        figures.append(Tile("the recipe as it was", default, f"better by {number(gain)}" if gain else "nothing was better"))
    return figures


def _splits(metrics: Mapping[str, Any]) -> Html:
    splits = [split for split in ("validation", "test") if metrics.get(split)]
    names = list(dict.fromkeys(name for split in splits for name in metrics[split]))
    rows = [[name, *(metrics[split].get(name) for split in splits)] for name in names]
    caption = "The best trial; the test rows were looked at once, for it alone" if "test" in splits else "The best trial"
    return table(["metric", *splits], rows, caption=caption)


def _chosen(facts: Mapping[str, Any], best: Mapping[str, Any]) -> object:
    if not best["parameters"]:
        return "The recipe as it was is the best of them."
    rows = [[path, _text(value), _range(facts["space"][path])] for path, value in best["parameters"].items()]
    return table(["key", "value", "searched"], rows, caption="What it set")


def _history(trials: Sequence[Mapping[str, Any]], metric: str, direction: str) -> Html:
    done = [row for row in trials if row["state"] == "complete"]
    pick = min if direction == "minimize" else max
    best: list[float] = []
    for row in done:
        best.append(pick([*best[-1:], row["value"]]))
    numbers = [row["number"] for row in done]
    first = next((row for row in done if row["value"] == best[-1]), None) if best else None
    markers = [Marker(first["number"], first["value"], f"trial {first['number']}")] if first else []
    series = [Series("a trial", numbers, [row["value"] for row in done]), Series("best so far", numbers, best)]
    return line(series, title="Trial by trial", x_label="trial", y_label=metric, markers=markers)


def _importance(importance: Mapping[str, float]) -> Html:
    listed = [Bar(path, share) for path, share in importance.items()]
    caption = "PED-ANOVA: how differently the better trials are spread over a key (Watanabe et al., 2023)"
    return bars(listed, title="Importance", as_percent=True, caption=caption) if listed else Html()


def _slices(facts: Mapping[str, Any]) -> list[Html]:
    done = [row for row in facts["trials"] if row["state"] == "complete" and row["parameters"]]
    ordered = list(dict.fromkeys([*facts["importance"], *facts["space"]]))[:_SLICES]
    return [_slice(path, done, facts["metric"]) for path in ordered if len(done) > 1]


def _slice(path: str, rows: Sequence[Mapping[str, Any]], metric: str) -> Html:
    values = [row["parameters"][path] for row in rows]
    up = [row["value"] for row in rows]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return scatter(values, up, title=path, x_label=path, y_label=metric)
    names = list(dict.fromkeys(map(_text, values)))
    places = [names.index(_text(value)) for value in values]
    legend = ", ".join(f"{place}: {name}" for place, name in enumerate(names))
    return scatter(places, up, title=path, x_label="choice", y_label=metric, caption=legend)


def _table(trials: Sequence[Mapping[str, Any]], metric: str, paths: Sequence[str]) -> Html:
    rows = [
        [
            row["number"],
            row["state"],
            row["value"],
            *(_cell(row["parameters"].get(path)) for path in paths),
            Value(seconds(row["seconds"]), row["seconds"]),
            (row["error"] or "").split("\n", 1)[0],
        ]
        for row in trials
    ]
    return table(["trial", "state", metric, *paths, "time", "error"], rows, caption="Every trial", sortable=True)


def _cell(value: Any) -> object:
    return value if value is None or (isinstance(value, int | float) and not isinstance(value, bool)) else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Mapping) and isinstance(value.get("type"), str):
        rest = ", ".join(f"{key} {part}" for key, part in value.items() if key != "type")
        return f"{value['type']} ({rest})" if rest else str(value["type"])
    return number(value) if isinstance(value, float) else str(value)


def _range(ranges: Mapping[str, Any]) -> str:
    if "choices" in ranges:
        return ", ".join(map(_text, ranges["choices"]))
    return f"{number(ranges['low'])} to {number(ranges['high'])}{', logarithmic' if ranges.get('log') else ''}"
