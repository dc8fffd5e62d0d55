"""`deepseek watch`: are these rows like those of training, and is the model as good as it was?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Plugins, Query, RunPath, Table, sources_given
from deepseek.cli.output import Output, as_table
from deepseek.errors import InputError

ALARM = 3
"""Exit status where there is an alarm."""
_QUIET = {"none", "slight drift"}
_FAR = 100
"""From so many times the threshold on, evidence has no figure: it grows exponentially, and nobody reads eight digits."""


def watch_verb(  # noqa: PLR0913 (what can be said on the command line)
    run: RunPath,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE…]", help="Tables of rows; several are a stream, the oldest first.")
    ] = None,
    *,
    log: Annotated[bool, typer.Option("--log", help="Show the log of the served run instead: windows, metrics, alarms.")] = False,
    forget: Annotated[
        list[str], typer.Option("--forget", metavar="ID", help="Take a request out of the log instead; may be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    forget_older: Annotated[
        str | None, typer.Option("--forget-older", metavar="TIME", help="Take everything older out of the log instead, such as 90d.")
    ] = None,
    labels: Annotated[str | None, typer.Option("--labels", metavar="COLUMN", help="Column with the truth, where it is known.")] = None,
    metric: Annotated[str | None, typer.Option("--metric", metavar="NAME", help="Metric whose drop is an alarm.")] = None,
    drop: Annotated[float | None, typer.Option("--drop", metavar="SIZE", help="Smallest drop that matters: 0.02.")] = None,
    prometheus: Annotated[str | None, typer.Option("--prometheus", metavar="FILE", help="File for the figures, for Prometheus.")] = None,
    notify: Annotated[bool, typer.Option("--notify", help="Tell of alarms as the recipe's monitor.notify says.")] = False,
    table: Table = None,
    query: Query = None,
    plugins: Plugins = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Check rows of production against the model's reference, or see the log of a served run; exit status 3 is an alarm."""
    progress.quiet(as_json)
    if log or forget or forget_older:
        of_files = {"--labels": labels, "--metric": metric, "--drop": drop, "--prometheus": prometheus, "--table": table, "--query": query}
        given = [name for name, value in of_files.items() if value is not None]
        given += [name for name, value in {"--notify": notify, "--plugin": plugins}.items() if value]
        _refuse_both(["files", *given] if sources else given, log=log, forget=bool(forget or forget_older))
        return _logged(run) if log else _forgotten(run, forget, forget_older)
    if not sources:
        raise InputError("there is nothing to watch", hint="name a table of rows, or --log for what was served")
    overrides = {"metric": metric, "drop": drop}
    named = sources_given(sources, table=table, query=query)
    rows = named[0] if len(named) == 1 else named  # a list of one spec would be a list of rows
    found = deepseek.watch(run, rows, labels=labels, overrides=overrides, prometheus=prometheus, notify=notify, plugins=plugins)
    return Output(found, _text(found), ALARM if found["alarms"] else 0)


def _refuse_both(of_files: Sequence[str], *, log: bool, forget: bool) -> None:
    """Refuse what an option that is about the log would not heed: whoever gives it counts on it."""
    if of_files:
        raise InputError(
            f"{of_files[0]} {'were' if of_files[0] == 'files' else 'was'} given, and an option that is about the log",
            hint="give one or the other",
        )
    if log and forget:
        raise InputError("--log shows the log, and --forget takes out of it", hint="give one of them")


def _logged(run: str) -> Output:
    from deepseek.monitoring.logged import read_log

    found = read_log(run)
    return Output(found, log_text(found), ALARM if found["alarms"] else 0)


def _forgotten(run: str, ids: Sequence[str], older: str | None) -> Output:
    from deepseek.monitoring.logged import forget
    from deepseek.recipe.quantities import parse_duration_s

    found = forget(run, ids=ids, older_s=None if older is None else parse_duration_s(older))
    unknown = f"; not in the log: {', '.join(found['unknown'])}" if found["unknown"] else ""
    return Output(found, f"{found['forgotten']:,} request{'' if found['forgotten'] == 1 else 's'} forgotten{unknown}")


def log_text(found: Mapping[str, Any]) -> str:
    """Return what `deepseek.monitoring.logged.read_log` found, for people."""
    counts, performance = found["counts"], found["performance"]
    lines = [f"{found['store']}  {counts['requests']:,} requests, {counts['labels']:,} labels, {counts['outcomes']:,} judged", ""]
    rows = [
        (f"{_moment(one['began'])} – {_moment(one['ended'])}", f"{one['rows']:,}", ", ".join(one["drifted"])) for one in found["windows"]
    ]
    if found["window"]:
        rows.append((f"{_moment(found['window']['began'])} – now", f"{found['window']['rows']:,}", ", ".join(found["window"]["drifted"])))
    if rows:
        lines += [as_table([("window", "rows", "drifted"), *rows]), ""]
    if performance["window"]:
        before = performance["reference"]
        values = [(name, _number(before.get(name)), _number(now)) for name, now in performance["window"].items()]
        lines += [as_table([("metric", "reference", "now"), *values]), ""]
    if test := performance["test"]:
        share = test["evidence"] / test["threshold"]
        shown = f"{share:.2f} of the threshold" if share < _FAR else f"more than {_FAR} times the threshold"
        lines += [f"evidence for a drop of {test['metric']}: {shown}", *_too_small(test), ""]
    lines += [f"{_moment(one['at'])}  {one['state']}  {one['summary']}" for one in found["events"]]
    return "\n".join([*lines, *([f"alarm: {name}" for name in found["alarms"]] or ["no alarm"])])


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="seconds")


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
        lines += [as_table([("metric", "reference", "now"), *rows]), *_too_small(found["performance"]["test"]), ""]
    return "\n".join([*lines, *([f"alarm: {text}" for text in found["alarms"]] or ["no alarm"])])


def _too_small(test: Mapping[str, Any] | None) -> list[str]:
    """Say where a drop of the size that is watched for cannot be told from chance, whatever labels come."""
    if test is None or test["smallest_drop"] <= test["drop"]:
        return []
    drop, smallest = f"{test['drop']:.3g}", f"{test['smallest_drop']:.2g}"
    rows = f"{test['reference_rows']:,.0f} rows"
    return [f"a drop of {drop} in {test['metric']} will often be missed: the reference is of {rows}, from which {smallest} can be told"]


def _rows(one: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for column in one["columns"]:
        missing = column["missing"]
        lacks = "" if not any(missing) else f"{missing[0]:.1%} → {missing[1]:.1%}"
        why = "" if column["verdict"] in _QUIET | {"missing values"} else column["why"]
        rows.append((column["column"], column["verdict"], _number(column["psi"]), f"{column['adjusted_p']:.2g}", lacks, why))
    return rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
