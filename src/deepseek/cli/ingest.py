"""`deepseek ingest`: contents taken in over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json
from deepseek.cli.output import Output


def ingest_verb(  # noqa: PLR0913 - its arguments are the verb's options
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where contents go: a dataset that the source ingest reads.")],
    *,
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help="Port, 0 for any free one; 8010.")] = None,
    keys: Annotated[str | None, typer.Option(metavar="FILE", help="File with the keys that clients show.")] = None,
    schema: Annotated[str | None, typer.Option(metavar="RUN", help="Run, bundle or recipe that says what records have to be.")] = None,
    topics: Annotated[list[str], typer.Option("--topic", metavar="NAME", help="A topic that may be posted to; may be repeated.")] = [],  # noqa: B006 - typer copies it
    attributes: Annotated[
        list[str], typer.Option("--attribute", metavar="PATTERN", help="A header that is an attribute, besides x-*; may be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    max_body: Annotated[str | None, typer.Option(metavar="SIZE", help="Largest body, such as 100MB; 1GB.")] = None,
    max_backlog: Annotated[str | None, typer.Option(metavar="SIZE", help="Most bytes that may wait to be put into parts; 4GB.")] = None,
    overrides: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Another setting; may be repeated.")] = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Take in records, texts, images and audio over HTTP, each exactly once, until SIGTERM or Ctrl-C."""
    from deepseek.recipe.overrides import apply_override

    progress.quiet(as_json)
    value: dict[str, Any] = {}
    for text in overrides:
        apply_override(value, {}, text)
    options: dict[str, Any] = {"host": host, "port": port, "keys": keys, "max_body": max_body, "max_backlog": max_backlog}
    options |= {"topics": topics or None, "attributes": attributes or None}
    given = {name: option for name, option in options.items() if option is not None}
    deepseek.ingest(folder, schema=schema, settings={**value, **given})
    return Output({"stopped": True}, "stopped")
