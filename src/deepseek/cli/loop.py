"""`deepseek loop`: from alarms to new models, judged and deployed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Overrides, Query, Table, key_given, source_given
from deepseek.cli.output import Output, as_table
from deepseek.errors import InputError

Do = Literal["once", "now", "approve", "undo", "status"]
Run = Annotated[str, typer.Argument(metavar="RUN", help="The run that is deployed, or the folder of its name.")]
Server = Annotated[str | None, typer.Option("--server", metavar="URL", help="The server that answers with it.")]
Key = Annotated[str | None, typer.Option("--key", metavar="KEY", help="A key that may load models there; DEEPSEEK_KEY.")]
Model = Annotated[str | None, typer.Option("--model", metavar="NAME", help="The run's name at the server; its folder's.")]


def follow_verb(
    run: Run,
    *,
    server: Server = None,
    key: Key = None,
    model: Model = None,
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="Time between two looks.")] = "10s",
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Follow alarms until it is stopped."""
    from deepseek.recipe.quantities import parse_duration_s

    progress.quiet(as_json)
    at = _at_server(server, key, model)
    return _done(deepseek.loop(run, do="follow", every_s=parse_duration_s(every), overrides=overrides, **at))


def _verb(do: Do, summary: str) -> Callable[..., Output]:
    """Return the verb of an action that is done once."""

    def verb(
        run: Run,
        *,
        server: Server = None,
        key: Key = None,
        model: Model = None,
        overrides: Overrides = [],  # noqa: B006 - typer copies it
        as_json: Json = False,
    ) -> Output:
        progress.quiet(as_json)
        return _done(deepseek.loop(run, do=do, overrides=overrides, **_at_server(server, key, model)))

    verb.__doc__ = summary
    return verb


def replay_verb(  # noqa: PLR0913 - its arguments are the verb's options
    run: Run,
    source: Annotated[str, typer.Argument(metavar="FILE", help="Rows of the past with their target, the oldest first.")],
    *,
    labels_after: Annotated[int, typer.Option("--labels-after", metavar="N", help="Rows after which a label comes.")] = 0,
    rows_a_day: Annotated[float, typer.Option("--rows-a-day", metavar="N", help="Rows that stand for a day.")] = 1_000.0,
    retrain_every: Annotated[
        int | None, typer.Option("--retrain-every", metavar="N", help="Beside it, a model that is trained anew every so many rows.")
    ] = None,
    table: Table = None,
    query: Query = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Say what it would have done on rows of the past."""
    progress.quiet(as_json)
    given = source_given(source, table=table, query=query)
    found = deepseek.replay(run, given, labels_after=labels_after, rows_a_day=rows_a_day, retrain_every=retrain_every, overrides=overrides)
    return Output(found, _replayed(found))


ACTIONS: dict[str, Callable[..., Output]] = {
    "follow": follow_verb,
    "once": _verb("once", "Go on until nothing can be done at the moment."),
    "now": _verb("now", "Begin a round now, alarm or not, and go on until nothing can be done at the moment."),
    "approve": _verb("approve", "Deploy the model that waits."),
    "undo": _verb("undo", "Take the last promotion back."),
    "status": _verb("status", "Say how it stands."),
    "replay": replay_verb,
}
SUMMARY = "Make a new model when an alarm is raised, and deploy it if it is surely better."


def _at_server(server: str | None, key: str | None, model: str | None) -> dict[str, Any]:
    """Return what says where the run is deployed; a key or a name without a server is refused, as whoever gives one counts on it."""
    for name, value in {"key": key, "model": model}.items():
        if value is not None and server is None:
            raise InputError(f"--{name} says nothing without --server", hint="give the server's address, or leave it out")
    return {"server": server, "key": None if server is None else key_given(key), "model": model}


def _done(found: Mapping[str, Any]) -> Output:
    lines = [(str(event["round"]), event["state"], event["why"]) for event in found["events"]]
    head = [("run", found["run"]), ("state", found["state"]), ("last", found["last"] or "-"), ("waits for", found["waits_for"] or "-")]
    if found["state"] != "idle" and found["candidate"]:
        head.insert(2, ("candidate", found["candidate"]))
    return Output(found, "\n".join([*([as_table([("round", "state", "why"), *lines]), ""] if lines else []), as_table(head)]))


def _replayed(found: Mapping[str, Any]) -> str:
    word = "accuracy" if "accuracy" in found else "loss"
    scores = as_table([(found["metric"], ""), *((name, f"{value:.4f}") for name, value in found[word].items())])
    rounds = [(str(one["round"]), f"{one['began_at_row']:,}", f"{one['at_row']:,}", one["state"], one["why"]) for one in found["rounds"]]
    left_out = f"; {found['unlabelled']:,} without a label were left out" if found["unlabelled"] else ""
    return "\n".join([f"{found['rows']:,} rows{left_out}", scores, "", as_table([("round", "from row", "to row", "", ""), *rounds])])
