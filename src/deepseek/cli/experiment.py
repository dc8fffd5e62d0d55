"""`deepseek experiment`: another model beside the one that is served, compared, promoted or taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepseek import progress
from deepseek.cli.options import Json
from deepseek.cli.output import Output, as_table
from deepseek.errors import InputError

if TYPE_CHECKING:
    from deepseek.serving.client import Client


Name = Annotated[str, typer.Argument(metavar="NAME", help="The model that is served.")]
Server = Annotated[str, typer.Option("--server", metavar="URL", help="Where the server is.")]
Key = Annotated[str | None, typer.Option("--key", envvar="DEEPSEEK_KEY", metavar="KEY", help="A key that may lead experiments.")]
Arm = Annotated[str | None, typer.Option("--arm", metavar="NAME", help="Which arm; not needed where there is one.")]
AT = "http://127.0.0.1:8000"
"""Where a server is that was begun without more."""
_GIVEN_WRONG = frozenset({400, 401, 403, 404, 422})
"""Statuses of a server that say that what was asked for is wrong, as the same would be on this machine."""


def start_verb(  # noqa: PLR0913 - its arguments are the verb's options
    name: Name,
    *,
    arms: Annotated[
        list[str], typer.Option("--arm", metavar="NAME=PATH", help="Another model, as the server sees it; may be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    share: Annotated[float | None, typer.Option("--share", metavar="SHARE", help="Each challenger's share, 0 to 1.")] = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Ask the arms beside the champion; they never answer.")] = False,
    key_field: Annotated[
        str | None, typer.Option("--key-field", metavar="FIELD", help="The field of a row that says whom it is about.")
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", metavar="NAME", help="What is compared.")] = None,
    guard: Annotated[bool, typer.Option("--guard", help="Take a challenger out by itself that is surely worse.")] = False,
    overrides: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="A further key of serve.experiment; may be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    server: Server = AT,
    key: Key = None,
    as_json: Json = False,
) -> Output:
    """Let other models answer a share of the requests, or be asked beside."""
    settings: dict[str, Any] = {"share": share, "role": "shadow" if shadow else None, "key_field": key_field, "metric": metric}
    settings = {option: value for option, value in settings.items() if value is not None}
    settings |= ({"guard": {}} if guard else {}) | _settings(overrides)
    named = _named_arms(arms)
    return _asked(lambda client: client.start(name, named, **settings), server, key, as_json=as_json)


def status_verb(name: Name, *, server: Server = AT, key: Key = None, as_json: Json = False) -> Output:
    """Say how it stands, and which arm is better."""
    return _asked(lambda client: client.status(name), server, key, as_json=as_json)


def share_verb(
    name: Name,
    *,
    share: Annotated[float, typer.Option("--share", metavar="SHARE", help="The challenger's share, 0 to 1.")],
    arm: Arm = None,
    server: Server = AT,
    key: Key = None,
    as_json: Json = False,
) -> Output:
    """Give a challenger another share, or a shadow its first one."""
    chosen = _one_arm(arm)
    return _asked(lambda client: client.share(name, share, arm=chosen), server, key, as_json=as_json)


def promote_verb(name: Name, *, arm: Arm = None, server: Server = AT, key: Key = None, as_json: Json = False) -> Output:
    """Make an arm the model that is served."""
    chosen = _one_arm(arm)
    return _asked(lambda client: client.promote(name, arm=chosen), server, key, as_json=as_json)


def rollback_verb(name: Name, *, server: Server = AT, key: Key = None, as_json: Json = False) -> Output:
    """End the experiment; where none runs, go back to the model that was there before."""
    return _asked(lambda client: client.rollback(name), server, key, as_json=as_json)


def stop_verb(name: Name, *, server: Server = AT, key: Key = None, as_json: Json = False) -> Output:
    """End the experiment; the champion goes on."""
    return _asked(lambda client: client.stop(name), server, key, as_json=as_json)


ACTIONS: dict[str, Callable[..., Output]] = {
    "start": start_verb,
    "status": status_verb,
    "share": share_verb,
    "promote": promote_verb,
    "rollback": rollback_verb,
    "stop": stop_verb,
}
SUMMARY = "Try another model on a part of the traffic, or beside it, and see which is better."


def _asked(ask: Callable[[Client], dict[str, Any]], server: str, key: str | None, *, as_json: bool) -> Output:
    from deepseek.serving.client import Client, ServerError

    progress.quiet(as_json)
    try:
        found = ask(Client(server, key))
    except ServerError as error:
        if error.status not in _GIVEN_WRONG:
            raise
        raise InputError(error.message, hint=error.hint) from None
    return Output(found, _text(found))


def _one_arm(arm: str | None) -> str | None:
    if arm is not None and "=" in arm:
        raise InputError(f"the arm is {arm}", hint="name one that runs: --arm candidate")
    return arm


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
    if "results" not in found:  # of a change the server says what it is now, not what was counted so far
        rows = [row[:4] for row in rows]
    lines = [head, "", as_table(rows)]
    return "\n".join([*lines, "", results["verdict"]] if "verdict" in results else lines)


def _row(arm: Mapping[str, Any], counted: Mapping[str, Any]) -> tuple[str, ...]:
    value, slowest = counted.get("value"), counted.get("seconds", {}).get("p99")
    share = "-" if arm["role"] == "shadow" else f"{arm['share']:.1%}"
    shown = "-" if value is None else f"{value['value']:.4f}"
    rows, outcomes = (f"{counted.get(name, 0):,}" for name in ("rows", "outcomes"))
    return arm["name"], arm["version"], arm["role"], share, rows, outcomes, shown, "-" if slowest is None else f"{1000 * slowest:.1f} ms"
