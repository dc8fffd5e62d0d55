"""`deepseek data`: versions of data, given back exactly; with DVC where a repository uses it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json
from deepseek.cli.output import Output, as_table
from deepseek.errors import InputError


class Action(StrEnum):
    """What can be done with versions of data."""

    status = "status"
    checkout = "checkout"
    add = "add"
    push = "push"
    pull = "pull"


def data_verb(
    action: Annotated[Action, typer.Argument(metavar="ACTION", help="status or checkout (of a RUN), add, push or pull (of a PATH).")],
    what: Annotated[str | None, typer.Argument(metavar="RUN|PATH", help="A run's folder, or a file or folder that DVC tracks.")] = None,
    *,
    to: Annotated[str | None, typer.Option("--to", metavar="FOLDER", help="Of checkout: where the files go; else RUN/data.")] = None,
    as_json: Json = False,
) -> Output:
    """Say whether a run's data are as they were, give them back, and keep versions with DVC."""
    progress.quiet(as_json)
    if to is not None and action is not Action.checkout:
        raise InputError(f"--to goes with checkout, not with {action.value}")
    if what is None and action in (Action.status, Action.checkout, Action.add):
        raise InputError(f"{action.value} needs {'a path' if action is Action.add else 'the folder of a run'}")
    if action is Action.status:
        found = deepseek.data_status(str(what))
        return Output(found, _status_text(found), status=0 if found["same"] else 1)
    if action is Action.checkout:
        found = deepseek.data_checkout(str(what), to)
        return Output(found, as_table([(file["came_from"], file["path"]) for file in found["files"]]))
    from deepseek.pipeline.data_versions import data_add, data_transfer  # not needed for `--help`

    if action is Action.add:
        found = data_add(str(what))
        return Output(found, f"added {found['added']}\nnow: git add {' '.join(found['commit'])} && git commit")
    found = data_transfer(action.value, what or ".")
    return Output(found, f"{action.value}: {found['said'][0] or 'done'}")


def _status_text(found: dict[str, Any]) -> str:
    rows = [("state", "SHA-256", "DVC", "file")]
    for file in found["files"]:
        commit = f"{file['commit'] or 'no commit'}"[:12] if "md5" in file else "-"
        rows.append((file["state"], file["sha256"][:12], commit, file["path"]))
    return as_table(rows)
