"""`deepseek profile`: what a table holds, and what changed since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Query, Table, source_given
from deepseek.cli.output import Output, as_table, page_line

_MARKS = {"high": "!!", "medium": "! ", "low": "  "}
_LOW_SHOWN = 10


def profile_verb(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A table, a folder of images by class, or a database's URL.")],
    *,
    table: Table = None,
    query: Query = None,
    target: Annotated[str | None, typer.Option("--target", "-t", metavar="COLUMN", help="The column to predict.")] = None,
    against: Annotated[str | None, typer.Option("--against", metavar="SOURCE", help="Other rows, to be compared with these.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="An HTML file for the same with pictures.")] = None,
    as_json: Json = False,
) -> Output:
    """Say what a table holds, and what drifted."""
    progress.quiet(as_json)
    found = deepseek.profile(source_given(source, table=table, query=query), target=target, against=against, output=output)
    return Output(found, _text(found, output))


def _text(found: Mapping[str, Any], output: str | None) -> str:
    from deepseek.reporting.numbers import percent
    from deepseek.reporting.profile import in_short

    rows = [("column", "kind", "missing", "different", "in short")]
    for column in found["columns"]:
        different = f"{'' if column['distinct_exact'] else '≈'}{column['distinct']:,}"
        missing = percent(column["missing_share"]) if column["missing"] else "-"
        rows.append((column["name"], column["kind"], missing, different, in_short(column)[:80]))
    head = f"{found['source']}: {found['rows']:,} rows, {len(found['columns'])} columns, {found['repeated_rows']:,} repeated rows"
    parts = [head, "", as_table(rows)]
    if target := found["target"]:
        parts += ["", f"target {target['column']}: {target['kind']} ({target['reason']})"]
        near = target["associations"][:5]
        parts += [as_table([(f"  {entry['column']}", entry["measure"], f"{entry['value']:.3f}") for entry in near])] if near else []
    if drift := found["drift"]:
        parts += ["", _drift_text(drift)]
    return "\n".join([*parts, *_findings_text(found["findings"]), *page_line(output)])


def _drift_text(drift: Mapping[str, Any]) -> str:
    rows = [("drift", "verdict", "psi", "adjusted p", "")]
    for entry in drift["columns"]:
        if entry["verdict"] != "none":
            psi, p = (f"{entry[key]:.3g}" if entry.get(key) is not None else "-" for key in ("psi", "adjusted_p"))
            rows.append((entry["column"], entry["verdict"], psi, p, entry["why"]))
    return as_table(rows) if len(rows) > 1 else f"no drift against {drift['against']}"


def _findings_text(findings: list[Mapping[str, Any]]) -> list[str]:
    shown = [finding for finding in findings if finding["grade"] != "low"]
    shown += [finding for finding in findings if finding["grade"] == "low"][:_LOW_SHOWN]
    rows = [(_MARKS[finding["grade"]], finding["column"] or "(rows)", finding["what"]) for finding in shown]
    more = len(findings) - len(shown)
    return ["", "what to look at", as_table(rows), *([f"   and {more} more"] if more else [])] if rows else ["", "nothing stands out"]
