"""`deepseek learn`: learn from a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Out, Overrides, Query, Table, sources_given
from deepseek.cli.output import Output, as_table


def learn_verb(  # noqa: PLR0913 (the verb's options)
    recipe: Annotated[str, typer.Argument(metavar="RECIPE|RUN", help="A recipe, or a run whose model learns on.")],
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE…]", help="Rows with the target, the oldest first; data.source for a recipe.")
    ] = None,
    *,
    time: Annotated[str | None, typer.Option("--time", metavar="COLUMN", help="Column of times to order the rows by; learn.time.")] = None,
    save_every: Annotated[
        int | None, typer.Option("--save-every", metavar="N", min=1, help="Rows after which the bundle is written; learn.save_every.")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Learn from the recipe's stream as its messages come; learn.live.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="With a live stream, go on with the newest run, if there is one.")] = False,
    table: Table = None,
    query: Query = None,
    out: Out = "runs",
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Answer each row of a stream, learn from it afterwards, and write a bundle."""
    progress.quiet(as_json)
    options = {"learn.time": time, "learn.save_every": save_every, "learn.live": "true" if live else None}
    said = [f"{path}={value}" for path, value in options.items() if value is not None]
    found = deepseek.learn(
        recipe, sources_given(sources or [], table=table, query=query), overrides=[*overrides, *said], out=out, resume=resume
    )
    return Output(found, _text(found))


def _text(found: Mapping[str, Any]) -> str:
    changes = {name: ", ".join(f"{place:,}" for place in places) or "none" for name, places in found["changes"].items()}
    lines = [
        ("rows", f"{found['rows']:,}"),
        ("accuracy", f"{found['accuracy']:.4f}  each row answered before it was learned from"),
        ("no change", f"{found['no_change']:.4f}  answering with the previous row's truth"),
        *((f"changes seen by {name}", places) for name, places in changes.items()),
        *((f"set aside: {reason}", f"{count:,}") for reason, count in found["set_aside"].items()),
        ("run", found["run"]),
        ("bundle", found["bundle"]),
        ("seconds", f"{found['seconds']:.1f}"),
    ]
    return as_table(lines)
