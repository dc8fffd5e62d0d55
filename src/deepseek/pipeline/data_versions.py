"""Versions of data: what a run was made of, compared with what is there now, and given back exactly, with DVC where that is used."""

from __future__ import annotations

import shutil
from os import PathLike
from pathlib import Path
from typing import Any

from deepseek.artifacts import RunFolder, plain_disk_errors, read_json, sha256_file
from deepseek.data.dvc import fetch, repository_of, run_dvc
from deepseek.errors import DataError, InputError

DATA_FOLDER = "data"
"""Where in a run's folder its data are put, where no other place is named."""


def data_status(run: str | PathLike[str]) -> dict[str, Any]:
    """Say of each file that a run was made of whether it is still what it was, and by what it is found again.

    Args:
        run: The run's folder.

    Returns:
        `run`, `same` (whether all files are), and `files`: `path`, `sha256`, `state` (`same`, `changed` or `missing`), and where DVC
        tracks it `md5`, `commit`, `committed` and `remote`.

    Raises:
        BundleError: There is no run.
        InputError: The run's source has no files.
    """
    folder, files, pinned = _known(run)
    found: list[dict[str, Any]] = []
    for file in files:
        pin = pinned.get(file["path"], {})
        found.append(
            {
                "path": file["path"],
                "sha256": file["sha256"],
                "state": _state(file),
                **{name: pin[name] for name in ("md5", "commit", "committed", "remote") if name in pin},
            }
        )
    return {"run": str(folder.path), "same": all(one["state"] == "same" for one in found), "files": found}


def data_checkout(run: str | PathLike[str], to: str | PathLike[str] | None = None) -> dict[str, Any]:
    """Give back exactly the files that a run was made of, in a folder of their own; every one is verified by its SHA-256.

    A file that is still what it was is copied from where it lies. Others come from DVC: the cache, or a remote by the commit that the run
    pinned. What is in the working tree stays as it is.

    Args:
        run: The run's folder.
        to: The folder; `data` in the run's folder where not given. Files that are there already must be the run's.

    Returns:
        `run`, `folder`, and `files`: `path` (where it is now) and `came_from` (`there`, `working tree` or `dvc`).

    Raises:
        BundleError: There is no run.
        DataError: A file cannot be had as it was; none is written then that is not.
        MissingExtraError: DVC is needed and not installed.
    """
    folder, files, pinned = _known(run)
    target = folder.path / DATA_FOLDER if to is None else Path(to)
    names = _names([Path(file["path"]) for file in files])
    done = []
    for file, name in zip(files, names, strict=True):
        place = target / name
        done.append({"path": str(place), "came_from": _give_back(file, pinned.get(file["path"]), place)})
    return {"run": str(folder.path), "folder": str(target), "files": done}


def data_add(path: str | PathLike[str]) -> dict[str, Any]:
    """Let DVC track a file or folder, and say what Git has to be told.

    Args:
        path: The file or folder, in a repository with DVC.

    Raises:
        DataError: It is not there, or in no such repository.
        MissingExtraError: DVC is not installed.
        RunError: DVC refuses.
    """
    given = Path(path).absolute()
    if not given.exists():
        raise DataError(f"there is no file {str(path)!r}")
    root = repository_of(given.parent)
    run_dvc(["add", str(given)], folder=root)
    written = [f"{given}.dvc", str(given.parent / ".gitignore")]
    return {"added": str(given), "commit": [name for name in written if Path(name).is_file()]}


def data_transfer(action: str, path: str | PathLike[str] = ".") -> dict[str, Any]:
    """Send tracked content to the remote, or get it from there.

    Args:
        action: `push` or `pull`.
        path: A tracked file or folder, or a repository with DVC for all of it.

    Raises:
        DataError: It lies in no repository with DVC.
        MissingExtraError: DVC is not installed.
        RunError: DVC fails.
    """
    if action not in ("push", "pull"):
        raise InputError(f"what is to be done is {action!r}", hint="allowed: push, pull")
    given = Path(path).absolute()
    root = repository_of(given)
    targets = [] if given == root else [str(given)]
    said = run_dvc([action, *targets], folder=root)
    return {action: str(path), "said": said.strip().splitlines()[-1:] or [""]}


def _known(run: str | PathLike[str]) -> tuple[RunFolder, list[dict[str, Any]], dict[str, dict[str, Any]]]:
    folder = RunFolder.open(Path(run))
    data = read_json(folder.data)
    files = [file for source in data["sources"].values() for file in source["files"]]
    if not files:
        raise InputError(
            f"the source of {folder.path} has no files: a table in memory or a database", hint="its fingerprint is in data.json"
        )
    return folder, files, {pin["path"]: pin for pin in data.get("dvc", ())}


def _state(file: dict[str, Any]) -> str:
    path = Path(file["path"])
    if not path.is_file():
        return "missing"
    return "same" if path.stat().st_size == file["size_bytes"] and sha256_file(path) == file["sha256"] else "changed"


def _give_back(file: dict[str, Any], pin: dict[str, Any] | None, place: Path) -> str:
    if place.exists():
        if place.is_file() and sha256_file(place) == file["sha256"]:
            return "there"
        raise DataError(f"{place} is there and is not what the run read", hint="take it away, or name another folder with --to")
    with plain_disk_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.partial")
        partial.unlink(missing_ok=True)
        try:
            if _state(file) == "same":
                shutil.copyfile(file["path"], partial)
                came_from = "working tree"
            elif pin is not None:
                fetch(pin, partial, sha256=file["sha256"])
                came_from = "dvc"
            else:
                raise DataError(
                    f"{file['path']} is {_state(file)}, and the run knows of no version of it elsewhere",
                    hint="track data with DVC before a run, so that every version can be had again",
                )
            if sha256_file(partial) != file["sha256"]:
                raise DataError(f"{file['path']} changed while it was copied", hint="try again")
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
    return came_from


def _names(paths: list[Path]) -> list[Path]:
    """Return paths below one folder, as short as they can be told apart: without what all have in common."""
    if len(paths) == 1:
        return [Path(paths[0].name)]
    common = next((parent for parent in paths[0].parents if all(parent in path.parents for path in paths)), None)
    return [path.relative_to(common) if common is not None else Path(*path.parts[1:]) for path in paths]
