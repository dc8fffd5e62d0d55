"""`deepseek recommend`: which network suits some data, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Out, Overrides, Query, Table, source_given
from deepseek.cli.output import Output, as_table


def recommend_verb(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A table, as `deepseek train` takes it, or a recipe.")],
    *,
    target: Annotated[list[str], typer.Option("--target", "-t", metavar="COLUMN", help="The column to predict; may be repeated.")] = [],  # noqa: B006
    table: Table = None,
    query: Query = None,
    out: Out = "runs",
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Say which network suits some data, and why; train nothing."""
    progress.quiet(as_json)
    given = source_given(source, table=table, query=query)
    advice = deepseek.recommend(given, target=target or None, overrides=overrides, out=out)
    return Output(advice, _text(advice))


def _text(advice: Mapping[str, Any]) -> str:
    lines = [("model", "parameters", "memory to train", "where")]
    lines.append((advice["model"]["type"], *_sizes(advice), "recommended"))
    lines += [(other["shown"], *_sizes(other), other["where"]) for other in advice["alternatives"]]
    rests = "; ".join(f"{one['said']}, {one['link'].removeprefix('../')}" for one in advice["evidence"])
    said = [
        f"{advice['task']}, {advice['rows']:,} training rows of {' and '.join(advice['inputs'])}",
        f"row      {advice['row']}",
        f"model    {advice['model']['type']}: {advice['why']}",
        f"because  {advice['because']} ({rests})",
    ]
    return "\n".join([*said, "", as_table(lines)])


def _sizes(part: Mapping[str, Any]) -> tuple[str, str]:
    if "parameters" not in part:
        return "", ""
    return f"{part['parameters']:,}", f"{part['training_bytes'] / 2**20:,.1f} MiB"
