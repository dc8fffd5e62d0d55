"""`deepseek compare`: runs side by side, and whether their differences can be told from chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json
from deepseek.cli.output import Output, as_table, page_line, shortened

_WIDTH = 40


def compare_verb(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN…", help="Runs' folders, names or bundles, two or more.")],
    *,
    metric: Annotated[str | None, typer.Option("--metric", metavar="NAME", help="What to sort by.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="An HTML file for the same with curves.")] = None,
    as_json: Json = False,
) -> Output:
    """Compare runs, and their models on the same rows."""
    progress.quiet(as_json)
    found = deepseek.compare(runs, output=output, metric=metric)
    return Output(found, _text(found, output))


def _text(found: Mapping[str, Any], output: str | None) -> str:
    from deepseek.reporting.compare import summary
    from deepseek.reporting.numbers import number, seconds, size

    runs, key = found["runs"], found["sorted_by"]
    names = list(dict.fromkeys([key, *(name for run in runs for name in run["metrics"].get("test") or run["metrics"]["validation"] or {})]))
    rows = [("run", "model", *names[:6], "training", "parameters", "bundle")]
    for run in runs:
        measured = run["metrics"].get("test") or run["metrics"]["validation"] or {}
        values = [number(measured.get(name)) for name in names[:6]]
        rows.append((run["run"], run["model"], *values, seconds(run["training_s"]), number(run["parameters"]), size(run["size_bytes"])))
    split = "test" if runs[0]["metrics"].get("test") else "validation"
    parts = [f"{len(runs)} runs on {split} rows, the best {key} first", as_table(rows)]
    if found["differing"]:
        shown, more = _worth_showing(found["differing"])
        lines = [(entry["key"], *(_short(value) for value in entry["values"])) for entry in shown]
        parts += ["", "what differs", as_table([("key", *(run["run"] for run in runs)), *lines])]
        parts += [f"and {more} keys that follow from these; --output and --json have all"] if more else []
    parts += ["", *(line for pair in found["pairs"] for line in _pair(pair, summary(pair, key)))]
    return "\n".join([*parts, *page_line(output)])


def _worth_showing(differing: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], int]:
    """Return the keys to show and how many are not: those of components whose types differ, and kinds of columns that one run lacks."""
    of_types = tuple(entry["key"].removesuffix("type") for entry in differing if entry["key"].endswith(".type"))
    kept = [
        entry
        for entry in differing
        if not any(entry["key"].startswith(parent) and entry["key"] != f"{parent}type" for parent in of_types)
        and not (entry["key"].startswith("data.fields.") and None in entry["values"])
    ]
    return kept, len(differing) - len(kept)


def _pair(pair: Mapping[str, Any], summary: str) -> list[str]:
    rows = [
        (f"  {entry['metric']}", f"{entry['difference']:+.5f}", f"{entry['low']:+.5f} to {entry['high']:+.5f}", entry["verdict"])
        for entry in pair["metrics"]
    ]
    return [summary, *([as_table(rows)] if rows else [])]


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return shortened(text, _WIDTH)
