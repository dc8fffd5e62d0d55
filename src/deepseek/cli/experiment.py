"""`deepseek experiment`: another model beside the one that is served, compared, promoted or taken back."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from deepseek import progress
from deepseek.cli.options import Json
from deepseek.cli.output import Output, as_table
from deepseek.errors import InputError


class Action(StrEnum):
    """What can be done with an experiment."""

    start = "start"
    status = "status"
    share = "share"
    promote = "promote"
    rollback = "rollback"
    stop = "stop"


def experiment_verb(  # noqa: PLR0913 - its arguments are the verb's options
    action: Annotated[Action, typer.Argument(metavar="ACTION", help="start, status, share, promote, rollback or stop.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model that is served.")],
    *,
    server: Annotated[str, typer.Option(metavar="URL", help="Where the server is.")] = "http://127.0.0.1:8000",
    key: Annotated[str | None, typer.Option(envvar="DEEPSEEK_KEY", metavar="KEY", help="A key that may lead experiments.")] = None,
    arms: Annotated[
        list[str], typer.Option("--arm", metavar="NAME=PATH", help="Of start: another model, as the server sees it. Else: which arm.")
    ] = [],  # noqa: B006 - typer copies it
    share: Annotated[float | None, typer.Option(metavar="SHARE", help="Of start and share: the challenger's share, 0 to 1.")] = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Of start: ask the arms beside the champion; they never answer.")] = False,
    by: Annotated[
        str | None, typer.Option("--by", metavar="FIELD", help="Of start: the field of a row that says whom it is about.")
    ] = None,
    metric: Annotated[str | None, typer.Option(metavar="NAME", help="Of start: what is compared.")] = None,
    guard: Annotated[bool, typer.Option("--guard", help="Of start: take a challenger out by itself that is surely worse.")] = False,
    overrides: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Of start: a further key of serve.experiment; may be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Try another model on a part of the traffic, or beside it, and see which is better."""
    from deepseek.serving.client import Client

    progress.quiet(as_json)
    client = Client(server, key)
    arm = _one_arm(arms) if action is not Action.start else None
    if action is Action.start:
        settings: dict[str, Any] = {"share": share, "role": "shadow" if shadow else None, "key": by, "metric": metric}
        settings = {option: value for option, value in settings.items() if value is not None}
        settings |= ({"guard": {}} if guard else {}) | _settings(overrides)
        found = client.start(name, _named_arms(arms), **settings)
    elif action is Action.status:
        found = client.status(name)
    elif action is Action.share:
        if share is None:
            raise InputError("no share is given", hint="give one: --share 0.5")
        found = client.share(name, share, arm=arm)
    elif action is Action.promote:
        found = client.promote(name, arm=arm)
    else:
        found = client.rollback(name) if action is Action.rollback else client.stop(name)
    return Output(found, _text(found))


def _one_arm(arms: list[str]) -> str | None:
    if len(arms) > 1 or any("=" in arm for arm in arms):
        raise InputError(f"the arm is {', '.join(arms)}", hint="name one arm: --arm candidate")
    return arms[0] if arms else None


def _named_arms(arms: list[str]) -> dict[str, str]:
    parted = [arm.partition("=") for arm in arms]
    named = {name: path for name, equals, path in parted if equals and path}
    if len(named) != len(arms) or not named:
        raise InputError(f"the arms are {', '.join(arms) or 'not given'}", hint="give each a name: --arm candidate=runs/churn/002")
    return named


def _settings(overrides: list[str]) -> dict[str, Any]:
    from deepseek.recipe.overrides import apply_override

    value: dict[str, Any] = {}
    for text in overrides:
        apply_override(value, {}, text)
    return value


def _text(found: Mapping[str, Any]) -> str:
    if "arms" not in found:
        workers = found["workers"]
        how = f": {found['outcome']}" if "outcome" in found else ""
        return f"{found['model']} is {found['version']}{how} ({workers['switched']} of {workers['of']} workers)"
    head = f"experiment {found['id']} on {found['model']}: {found['outcome'] or found['state']}, by {found['metric']}"
    results = found.get("results", {})
    rows: list[tuple[str, ...]] = [("arm", "version", "role", "share", "rows", "outcomes", found["metric"], "p99")]
    rows += [_row(arm, results.get("arms", {}).get(arm["name"], {})) for arm in found["arms"]]
    lines = [head, "", as_table(rows)]
    return "\n".join([*lines, "", results["verdict"]] if "verdict" in results else lines)


def _row(arm: Mapping[str, Any], counted: Mapping[str, Any]) -> tuple[str, ...]:
    value, slowest = counted.get("value"), counted.get("seconds", {}).get("p99")
    share = "-" if arm["role"] == "shadow" else f"{arm['share']:.1%}"
    shown = "-" if value is None else f"{value['value']:.4f}"
    rows, outcomes = (f"{counted.get(name, 0):,}" for name in ("rows", "outcomes"))
    return arm["name"], arm["version"], arm["role"], share, rows, outcomes, shown, "-" if slowest is None else f"{1000 * slowest:.1f} ms"
