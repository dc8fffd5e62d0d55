"""`deepseek generate`: a language model goes on from a text."""

from __future__ import annotations

from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Plugins, RunPath
from deepseek.cli.output import Output


def generate_verb(  # noqa: PLR0913 - each is an option
    run: RunPath,
    *,
    prompt: Annotated[str, typer.Option("--prompt", "-p", metavar="TEXT", help="The text to go on from.")] = "",
    tokens: Annotated[int, typer.Option(min=1, help="The most tokens to write.")] = 200,
    temperature: Annotated[float, typer.Option(min=0.0, help="Below 1 likelier, above 1 wilder; 0 takes the likeliest token.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Choose among so many of the likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Choose among the fewest tokens of this probability.")] = None,
    beams: Annotated[int, typer.Option(min=1, help="Follow so many texts and take the likeliest; nothing is drawn.")] = 1,
    seed: Annotated[int, typer.Option(help="Decides what is drawn.")] = 0,
    plugins: Plugins = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Write on from a text with a trained language model."""
    progress.quiet(as_json)
    value = deepseek.generate(
        run, prompt, plugins=plugins, tokens=tokens, temperature=temperature, top_k=top_k, top_p=top_p, beams=beams, seed=seed
    )
    return Output(value, value["text"])
