"""`deepseek loop`: from alarms to new models, judged and deployed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Overrides
from deepseek.cli.output import Output, as_table
from deepseek.errors import InputError


def loop_verb(  # noqa: PLR0913 (what can be said on the command line)
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run that is deployed, or the folder of its name.")],
    *,
    server: Annotated[str | None, typer.Option("--server", metavar="URL", help="The server that answers with it.")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="A key that may load models there; ${ENV:NAME} too.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="The run's name at the server; its folder's.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Go on until nothing can be done at the moment.")] = False,
    now: Annotated[bool, typer.Option("--now", help="The same, with a round begun now, alarm or not.")] = False,
    approve: Annotated[bool, typer.Option("--approve", help="Deploy the model that waits.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the last promotion back.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Say how it stands.")] = False,
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="Time between two looks.")] = "10s",
    replay: Annotated[str | None, typer.Option("--replay", metavar="FILE", help="Rows of the past: what would it have done?")] = None,
    labels_after: Annotated[int, typer.Option("--labels-after", metavar="N", help="Rows after which a label comes, in a replay.")] = 0,
    rows_a_day: Annotated[float, typer.Option("--rows-a-day", metavar="N", help="Rows that stand for a day, in a replay.")] = 1_000.0,
    retrain_every: Annotated[
        int | None, typer.Option("--retrain-every", metavar="N", help="In a replay, beside training every so many rows.")
    ] = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Make a new model when an alarm is raised, and deploy it if it is surely better; without an option until it is stopped."""
    from deepseek.recipe.quantities import parse_duration_s
    from deepseek.recipe.secrets import resolve_secrets

    progress.quiet(as_json)
    asked = [name for name, wanted in {"once": once, "now": now, "approve": approve, "undo": undo, "status": status}.items() if wanted]
    if len(asked) + (replay is not None) > 1:
        named = [*asked, *(["replay"] if replay is not None else [])]
        raise InputError(f"--{' and --'.join(named)} cannot be given together", hint="give one of them")
    if replay is not None:
        found = deepseek.replay(
            run, replay, labels_after=labels_after, rows_a_day=rows_a_day, retrain_every=retrain_every, overrides=overrides
        )
        return Output(found, _replayed(found))
    do: Any = asked[0] if asked else "follow"
    shown = None if key is None else str(resolve_secrets(key))
    done = deepseek.loop(run, do=do, server=server, key=shown, model=model, overrides=overrides, every_s=parse_duration_s(every))
    return Output(done, _text(done))


def _text(found: Mapping[str, Any]) -> str:
    lines = [(str(event["round"]), event["state"], event["why"]) for event in found["events"]]
    head = [("run", found["run"]), ("state", found["state"]), ("last", found["last"] or "-"), ("waits for", found["waits_for"] or "-")]
    return "\n".join([*([as_table([("round", "state", "why"), *lines]), ""] if lines else []), as_table(head)])


def _replayed(found: Mapping[str, Any]) -> str:
    word = "accuracy" if "accuracy" in found else "loss"
    scores = as_table([(found["metric"], ""), *((name, f"{value:.4f}") for name, value in found[word].items())])
    rounds = [(str(one["round"]), f"{one['began_at_row']:,}", f"{one['at_row']:,}", one["state"], one["why"]) for one in found["rounds"]]
    return "\n".join([f"{found['rows']:,} rows", scores, "", as_table([("round", "from row", "to row", "", ""), *rounds])])
