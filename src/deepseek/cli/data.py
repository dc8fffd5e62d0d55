"""`deepseek data`: versions of data, given back exactly; with DVC where a repository uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, RunPath
from deepseek.cli.output import Output, as_table

Tracked = Annotated[str, typer.Argument(metavar="PATH", help="A file or folder in a repository with DVC.")]


def status_verb(run: RunPath, *, as_json: Json = False) -> Output:
    """Say of each file that a run was made of whether it is what it was; the exit status is 1 where one is not."""
    progress.quiet(as_json)
    found = deepseek.data_status(run)
    rows = [("state", "SHA-256", "DVC", "file")]
    for file in found["files"]:
        commit = f"{file['commit'] or 'no commit'}"[:12] if "md5" in file else "-"
        rows.append((file["state"], file["sha256"][:12], commit, file["path"]))
    return Output(found, as_table(rows), status=0 if found["same"] else 1)


def checkout_verb(
    run: RunPath,
    *,
    to: Annotated[str | None, typer.Option("--to", metavar="FOLDER", help="Where the files go; RUN/data where not given.")] = None,
    as_json: Json = False,
) -> Output:
    """Give back exactly the files that a run was made of, each verified by its hash."""
    progress.quiet(as_json)
    found = deepseek.data_checkout(run, to)
    return Output(found, as_table([(file["came_from"], file["path"]) for file in found["files"]]))


def add_verb(path: Tracked, *, as_json: Json = False) -> Output:
    """Let DVC track a file or folder."""
    from deepseek.pipeline.data_versions import data_add  # not needed for `--help`

    progress.quiet(as_json)
    found = data_add(path)
    return Output(found, f"added {found['added']}\nnow: git add {' '.join(found['commit'])} && git commit")


def push_verb(path: Tracked = ".", *, as_json: Json = False) -> Output:
    """Send what DVC tracks to the remote."""
    return _transferred("push", path, as_json=as_json)


def pull_verb(path: Tracked = ".", *, as_json: Json = False) -> Output:
    """Get what DVC tracks from the remote."""
    return _transferred("pull", path, as_json=as_json)


ACTIONS: dict[str, Callable[..., Output]] = {
    "status": status_verb,
    "checkout": checkout_verb,
    "add": add_verb,
    "push": push_verb,
    "pull": pull_verb,
}
SUMMARY = "Say whether a run's data are as they were, give them back, and keep versions with DVC."


def _transferred(action: str, path: str, *, as_json: bool) -> Output:
    from deepseek.pipeline.data_versions import data_transfer  # not needed for `--help`

    progress.quiet(as_json)
    found: dict[str, Any] = data_transfer(action, path)
    return Output(found, f"{action}: {found['said'][0] or 'done'}")
