"""`deepseek suspects`: labels that are probably wrong."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Out, Overrides, RecipePath
from deepseek.cli.output import Output, as_table

_SHOWN = 5


def suspects_verb(  # noqa: PLR0913 (what can be said on the command line)
    recipe: RecipePath,
    *,
    folds: Annotated[int, typer.Option(metavar="N", min=2, help="Networks that are trained, each on all folds but one.")] = 5,
    method: Annotated[
        Literal["both", "class", "noise_rate", "joint"], typer.Option(help="How suspects are chosen; both tells of fewest, joint of most.")
    ] = "both",
    key: Annotated[str | None, typer.Option(metavar="COLUMN", help="A column written beside each row's number.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the latest search of this recipe.")] = False,
    no_examples: Annotated[bool, typer.Option("--no-examples", help="Leave raw rows out of the page.")] = False,
    out: Out = "runs",
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Find training rows whose label is probably wrong."""
    progress.quiet(as_json)
    found = deepseek.suspects(
        recipe, folds=folds, method=method, key=key, overrides=overrides, resume=resume, out=out, examples=not no_examples
    )
    value = found.to_json()
    return Output(value, _text(value, found.table.slice(0, _SHOWN).to_pylist()))


def _text(value: dict[str, Any], first: list[dict[str, Any]]) -> str:
    head = [
        ("suspects", f"{value['suspects']:,} of {value['judged']:,} labels judged"),
        ("thought wrong", f"{value['share']:.1%} of the labels, by the confident joint"),
        ("file", value["file"]),
        ("page", value["page"]),
        ("seconds", f"{value['seconds']:.1f}"),
    ]
    if value["not_judged"]:
        head.insert(1, ("not judged", f"{value['not_judged']:,} rows were set aside, or are of a class that no other fold has"))
    rows = [("row", "label", "suggested", "probability of both")]
    rows += [
        (str(one["row"]), one["given"], one["suggested"], f"{one['probability_given']:.3f} {one['probability_suggested']:.3f}")
        for one in first
    ]
    return "\n".join(["", as_table(head), *(["", as_table(rows)] if first else [])])
