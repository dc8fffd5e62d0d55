"""`deepseek watch`: are these rows like those of training, and is the model as good as it was?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Plugins, RunPath
from deepseek.cli.output import Output, as_table

ALARM = 3
"""Exit status where there is an alarm."""
_QUIET = {"none", "slight drift"}


def watch_verb(  # noqa: PLR0913 (what can be said on the command line)
    run: RunPath,
    sources: Annotated[list[str], typer.Argument(metavar="FILE…", help="Tables of rows; several are a stream, the oldest first.")],
    *,
    labels: Annotated[str | None, typer.Option("--labels", metavar="COLUMN", help="Column with the truth, where it is known.")] = None,
    metric: Annotated[str | None, typer.Option("--metric", metavar="NAME", help="Metric whose drop is an alarm.")] = None,
    drop: Annotated[float | None, typer.Option("--drop", metavar="SIZE", help="Smallest drop that matters: 0.02.")] = None,
    prometheus: Annotated[str | None, typer.Option("--prometheus", metavar="FILE", help="File for the figures, for Prometheus.")] = None,
    notify: Annotated[bool, typer.Option("--notify", help="Tell of alarms as the recipe's monitor.notify says.")] = False,
    plugins: Plugins = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Check rows of production against the model's reference; exit status 3 is an alarm."""
    progress.quiet(as_json)
    overrides = {"metric": metric, "drop": drop}
    found = deepseek.watch(run, sources, labels=labels, overrides=overrides, prometheus=prometheus, notify=notify, plugins=plugins)
    return Output(found, _text(found), ALARM if found["alarms"] else 0)


def _text(found: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for one in found["files"]:
        lines += [f"{one['file']}  {one['rows']:,} rows", as_table([("column", "verdict", "PSI", "p", "missing", ""), *_rows(one)]), ""]
        estimate = one["estimate"]
        if estimate is not None and not one["labels"]:
            reference = found["performance"]["reference"].get("accuracy")
            known = "" if reference is None else f", {reference:.3f} in the reference"
            lines += [f"estimated accuracy {estimate['calibrated']:.3f}{known}: from confidence alone, an estimate", ""]
    measured = found["performance"]["window"] if len(found["files"]) > 1 else found["files"][0]["metrics"]
    if measured:
        before = found["performance"]["reference"]
        rows = [(name, _number(before.get(name)), _number(now)) for name, now in measured.items()]
        lines += [as_table([("metric", "reference", "now"), *rows]), ""]
    return "\n".join([*lines, *([f"alarm: {text}" for text in found["alarms"]] or ["no alarm"])])


def _rows(one: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for column in one["columns"]:
        missing = column["missing"]
        lacks = "" if not any(missing) else f"{missing[0]:.1%} → {missing[1]:.1%}"
        rows.append((column["column"], column["verdict"], _number(column["psi"]), f"{column['adjusted_p']:.2g}", lacks, _why(column)))
    return rows


def _why(column: Mapping[str, Any]) -> str:
    if column["verdict"] in _QUIET:
        return ""
    if column["new_values"] and column["new_share"]:
        return f"{column['new_share']:.1%} new: {', '.join(column['new_values'][:3])}"
    means = column["means"]
    return f"mean {means[0]:.4g} → {means[1]:.4g}" if means and None not in means else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
