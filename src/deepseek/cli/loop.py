"""`deepseek loop`: from alarms to new models, judged and deployed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Overrides, key_given
from deepseek.cli.output import Output, as_table
from deepseek.errors import InputError

EVERY = "10s"
"""Between two looks."""
_AT_A_SERVER = ("server", "key", "model")
_OF_REPLAYS = ("labels-after", "rows-a-day", "retrain-every")


def loop_verb(  # noqa: PLR0913 (what can be said on the command line)
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run that is deployed, or the folder of its name.")],
    *,
    server: Annotated[str | None, typer.Option("--server", metavar="URL", help="The server that answers with it.")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="A key that may load models there; DEEPSEEK_KEY.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="The run's name at the server; its folder's.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Go on until nothing can be done at the moment.")] = False,
    now: Annotated[bool, typer.Option("--now", help="The same, with a round begun now, alarm or not.")] = False,
    approve: Annotated[bool, typer.Option("--approve", help="Deploy the model that waits.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the last promotion back.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Say how it stands.")] = False,
    every: Annotated[str | None, typer.Option("--every", metavar="TIME", help=f"Time between two looks, {EVERY}.")] = None,
    replay: Annotated[str | None, typer.Option("--replay", metavar="FILE", help="Rows of the past: what would it have done?")] = None,
    labels_after: Annotated[
        int | None, typer.Option("--labels-after", metavar="N", help="Rows after which a label comes, in a replay; 0.")
    ] = None,
    rows_a_day: Annotated[
        float | None, typer.Option("--rows-a-day", metavar="N", help="Rows that stand for a day, in a replay; 1,000.")
    ] = None,
    retrain_every: Annotated[
        int | None, typer.Option("--retrain-every", metavar="N", help="In a replay, beside training every so many rows.")
    ] = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Make a new model when an alarm is raised, and deploy it if it is surely better; without an option until it is stopped."""
    from deepseek.recipe.quantities import parse_duration_s

    progress.quiet(as_json)
    asked = [name for name, wanted in {"once": once, "now": now, "approve": approve, "undo": undo, "status": status}.items() if wanted]
    if len(asked) + (replay is not None) > 1:
        named = [*asked, *(["replay"] if replay is not None else [])]
        raise InputError(f"--{' and --'.join(named)} cannot be given together", hint="give one of them")
    of_replay = {"labels-after": labels_after, "rows-a-day": rows_a_day, "retrain-every": retrain_every}
    given = {"server": server, "key": key, "model": model, "every": every, **of_replay}
    refuse_unheeded(
        "replay" if replay is not None else asked[0] if asked else None, [name for name, value in given.items() if value is not None]
    )
    if replay is not None:
        numbers: dict[str, Any] = {name.replace("-", "_"): value for name, value in of_replay.items() if value is not None}
        found = deepseek.replay(run, replay, overrides=overrides, **numbers)
        return Output(found, _replayed(found))
    do: Any = asked[0] if asked else "follow"
    shown = None if server is None else key_given(key)
    done = deepseek.loop(run, do=do, server=server, key=shown, model=model, overrides=overrides, every_s=parse_duration_s(every or EVERY))
    return Output(done, _text(done))


def refuse_unheeded(action: str | None, given: Sequence[str]) -> None:
    """Refuse options that what is done would not heed: whoever gives one counts on it.

    Args:
        action: What is done, such as `status`; nothing where the loop follows alarms.
        given: The options that are given, without dashes.

    Raises:
        InputError: One of them does not belong to the action, or asks for a server that is not given.
    """
    heeded = {"replay": _OF_REPLAYS, None: (*_AT_A_SERVER, "every")}.get(action, _AT_A_SERVER)
    for name in given:
        if name not in heeded:
            doing = f"--{action}" if action else "the loop that follows alarms"
            hint = f"it goes with --{', --'.join(heeded)}" + (f"; --{name} goes with --replay" if name in _OF_REPLAYS else "")
            raise InputError(f"--{name} says nothing to {doing}", hint=hint)
        if name in {"key", "model"} and "server" not in given:
            raise InputError(f"--{name} says nothing without --server", hint="give the server's address, or leave it out")


def _text(found: Mapping[str, Any]) -> str:
    lines = [(str(event["round"]), event["state"], event["why"]) for event in found["events"]]
    head = [("run", found["run"]), ("state", found["state"]), ("last", found["last"] or "-"), ("waits for", found["waits_for"] or "-")]
    return "\n".join([*([as_table([("round", "state", "why"), *lines]), ""] if lines else []), as_table(head)])


def _replayed(found: Mapping[str, Any]) -> str:
    word = "accuracy" if "accuracy" in found else "loss"
    scores = as_table([(found["metric"], ""), *((name, f"{value:.4f}") for name, value in found[word].items())])
    rounds = [(str(one["round"]), f"{one['began_at_row']:,}", f"{one['at_row']:,}", one["state"], one["why"]) for one in found["rounds"]]
    return "\n".join([f"{found['rows']:,} rows", scores, "", as_table([("round", "from row", "to row", "", ""), *rounds])])
