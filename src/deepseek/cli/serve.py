"""`deepseek serve`: models over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Plugins
from deepseek.cli.output import Output


def serve_verb(  # noqa: PLR0913 - its arguments are the verb's options
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs or bundles; NAME=PATH gives one another name.")],
    *,
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on; serve.host.")] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help="Port, 0 for any free one; serve.port.")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processes that share the port; serve.workers.")] = None,
    runners: Annotated[
        int | None, typer.Option(metavar="N", help="Processes of a worker that run the network, 0 for none; serve.runners.")
    ] = None,
    backend: Annotated[str | None, typer.Option(metavar="NAME", help="What runs the network; serve.backend.")] = None,
    optimize: Annotated[
        bool | None,
        typer.Option("--optimize/--no-optimize", help="Look for the fastest form beside answering; serve.optimize.", show_default=False),
    ] = None,
    keys: Annotated[str | None, typer.Option(metavar="FILE", help="File with the keys that clients show; serve.keys.")] = None,
    max_body: Annotated[str | None, typer.Option(metavar="SIZE", help="Largest body, such as 10MB; serve.max_body.")] = None,
    state: Annotated[str | None, typer.Option(metavar="FOLDER", help="The server's own folder; serve.state.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Watch models whose recipe has no section monitor too; serve.watch.")] = False,
    overrides: Annotated[
        list[str], typer.Option("--set", metavar="PATH=VALUE", help="Override a key of the section serve; may be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    plugins: Plugins = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Serve models over HTTP until SIGTERM or Ctrl-C."""
    from deepseek.recipe.overrides import apply_override

    progress.quiet(as_json)
    value: dict[str, Any] = {}
    for text in overrides:
        apply_override(value, {}, text)
    section = value.get("serve", {}) if set(value) <= {"serve"} else value
    options = {
        "host": host, "port": port, "workers": workers, "runners": runners, "backend": backend, "optimize": optimize, "keys": keys,
        "max_body": max_body, "state": state, "watch": watch or None,
    }  # fmt: skip
    given = {name: option for name, option in options.items() if option is not None}
    deepseek.serve(runs, settings={**(section if isinstance(section, Mapping) else {}), **given}, plugins=plugins)
    return Output({"stopped": True}, "stopped")
