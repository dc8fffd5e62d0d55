"""Where DVC keeps what a run was made of: read from the repository's own files, so that a run pins it also where DVC is not installed.

DVC (https://dvc.org) writes for each tracked file or folder a small text, `NAME.dvc` or an entry of `dvc.lock`, which Git keeps in its
place; the content lies in a cache and in remotes under its MD5. A run's own manifest names contents by SHA-256; this module adds by which
commit, MD5 and remote the same content is had again, and whether what was read is what DVC knows.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from sys import executable
from typing import Any

import yaml

from deepseek.artifacts.files import sha256_file
from deepseek.errors import DataError, MissingExtraError, RunError
from deepseek.recipe.secrets import without_password

COMMAND = "DEEPSEEK_DVC"
"""The environment variable that names the command `dvc`, where it is installed in an environment of its own."""
_FOLDER = ".dvc"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Pin:
    """By what a file that was read is found again in a repository with DVC.

    Attributes:
        path: The file.
        root: The folder of the repository.
        name: The file's path in it.
        tracked_by: The `.dvc` file or `dvc.lock` that names it, by its path in the repository.
        md5: What DVC calls the content; of a folder that of the whole folder, unless its list is in the cache.
        matches: Whether the file is what DVC knows; nothing where that cannot be told.
        commit: The commit that was checked out; nothing without Git.
        committed: Whether that commit holds `tracked_by` as it is.
        remote: The default remote's `name` and `url`; nothing where there is none.
    """

    path: str
    root: str
    name: str
    tracked_by: str
    md5: str
    matches: bool | None
    commit: str | None
    committed: bool
    remote: Mapping[str, str] | None

    def to_json(self) -> dict[str, Any]:
        """Return the pin as plain JSON values."""
        return asdict(self)


def pins(paths: Sequence[str | Path]) -> tuple[list[Pin], list[str]]:
    """Return a pin for each of the files that DVC tracks, and what the user should know.

    Args:
        paths: Files that were read.
    """
    found = [pin for path in paths if (pin := _pin(Path(os.path.abspath(path)))) is not None]  # noqa: PTH100 - links are kept
    warnings = []
    for reason, names in (
        ("not what DVC knows: track them anew with: deepseek data add", [pin.name for pin in found if pin.matches is False]),
        ("tracked, but the .dvc file is not committed: no commit gives them back", [pin.name for pin in found if not pin.committed]),
    ):
        if names:
            warnings.append(f"{len(names)} files of the data, {', '.join(names[:3])}{', …' if len(names) > 3 else ''}, are {reason}")
    return found, warnings


def cached(pin: Mapping[str, Any]) -> Path | None:
    """Return where the content of a pinned file lies in the repository's cache, or nothing."""
    root, md5 = Path(pin["root"]), str(pin["md5"])
    if md5.endswith(".dir"):
        return None
    places = [_cache_folder(root) / "files" / "md5" / md5[:2] / md5[2:], _cache_folder(root) / md5[:2] / md5[2:]]
    return next((place for place in places if place.is_file()), None)


def fetch(pin: Mapping[str, Any], target: Path, *, sha256: str) -> None:
    """Write the content of a pinned file, from the cache or by `dvc get` from a remote, and see that it is what the run read.

    Args:
        pin: What `Pin.to_json` returned.
        target: The file to be written; it must not exist.
        sha256: The hash of its content.

    Raises:
        MissingExtraError: The cache does not have it, and DVC is not installed.
        DataError: It cannot be had, or another content came.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    place = cached(pin)
    if place is not None and sha256_file(place) == sha256:
        shutil.copyfile(place, target)
        return
    if not pin["commit"] or not pin["committed"]:
        raise DataError(
            f"{pin['name']} cannot be had again: its .dvc file was not committed when it was read, and the cache of {pin['root']} lacks it",
            hint="commit .dvc files before a run",
        )
    run_dvc(["get", pin["root"], pin["name"], "--rev", pin["commit"], "--out", str(target)], folder=Path(pin["root"]))
    if not target.is_file() or sha256_file(target) != sha256:
        target.unlink(missing_ok=True)
        raise DataError(f"the {pin['name']} of commit {pin['commit'][:12]} is not what the run read", hint="it was changed without dvc add")


def run_dvc(arguments: Sequence[str], *, folder: Path) -> str:
    """Run DVC and return what it prints.

    Args:
        arguments: What stands behind `dvc`.
        folder: Where it runs.

    Raises:
        MissingExtraError: DVC is not installed.
        RunError: It fails; the message is DVC's.
    """
    command = [*dvc_command(), *arguments]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true"}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RunError(f"the command {command[0]!r} cannot be run: {error.strerror}", hint=f"name DVC's command in {COMMAND}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).removeprefix("ERROR: ")
        raise RunError(f"dvc {' '.join(arguments[:1])} failed in {folder}: {said[-1000:]}")
    return done.stdout


def dvc_command() -> list[str]:
    """Return how DVC is called: by `DEEPSEEK_DVC`, from this environment, or from the path.

    Raises:
        MissingExtraError: There is none.
    """
    if given := os.environ.get(COMMAND):
        return [given]
    if find_spec("dvc") is not None:
        return [executable, "-m", "dvc"]
    if there := shutil.which("dvc"):
        return [there]
    raise MissingExtraError("dvc", "dvc", "giving data back by version")


def repository_of(path: Path) -> Path:
    """Return the repository with DVC that a file or folder lies in.

    Raises:
        DataError: There is none.
    """
    start = Path(os.path.abspath(path))  # noqa: PTH100 - links are kept
    root = _root(start if start.is_dir() else start.parent)
    if root is None:
        raise DataError(f"{path} lies in no repository with DVC", hint="begin one there: git init && dvc init")
    return root


def _pin(path: Path) -> Pin | None:
    root = _root(path.parent)
    found = None if root is None else next(_tracking(path, root), None)
    if root is None or found is None:
        return None
    file, out, entry = found
    md5 = str(entry.get("md5") or "")
    if md5.endswith(".dir"):
        md5 = _within(root, md5).get(path.relative_to(out).as_posix(), md5)
    matches = None if md5.endswith(".dir") else _is(path, md5, legacy="hash" not in entry)
    commit = _git(root, "rev-parse", "HEAD")
    name = file.relative_to(root).as_posix()
    prefix = (_git(root, "rev-parse", "--show-prefix") or b"").decode().strip()
    kept = _git(root, "show", f"HEAD:{prefix}{name}")
    return Pin(
        path=str(path),
        root=str(root),
        name=path.relative_to(root).as_posix(),
        tracked_by=name,
        md5=md5,
        matches=matches,
        commit=None if commit is None else commit.decode().strip(),
        committed=kept is not None and kept == file.read_bytes(),
        remote=_remote(root),
    )


def _root(folder: Path) -> Path | None:
    return next((one for one in (folder, *folder.parents) if (one / _FOLDER / "config").is_file()), None)


def _tracking(path: Path, root: Path) -> Iterator[tuple[Path, Path, Mapping[str, Any]]]:
    """Yield what tracks a file: the text that says so, the file or folder that it names, and its entry."""
    for folder in (path.parent, *path.parent.parents):
        for file in (*sorted(folder.glob("*.dvc")), folder / "dvc.lock"):
            if not file.is_file():
                continue
            for place, entry in _outputs(file):
                if place == path or place in path.parents:
                    yield file, place, entry
        if folder == root:
            return


def _outputs(file: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return  # not ours to judge: DVC says what is wrong with it
    stages = said.get("stages", {}).values() if file.name == "dvc.lock" else [said]
    for stage in stages:
        for entry in stage.get("outs", ()):
            if isinstance(entry, Mapping) and entry.get("md5") and isinstance(entry.get("path"), str):
                yield Path(os.path.normpath(file.parent / stage.get("wdir", ".") / entry["path"])), entry


def _within(root: Path, md5: str) -> dict[str, str]:
    """Return the files of a tracked folder with their MD5, where the list is in the cache."""
    for place in (_cache_folder(root) / "files" / "md5" / md5[:2] / md5[2:], _cache_folder(root) / md5[:2] / md5[2:]):
        if place.is_file():
            try:
                return {entry["relpath"]: entry["md5"] for entry in json.loads(place.read_text(encoding="utf-8"))}
            except (ValueError, KeyError, TypeError):
                return {}
    return {}


def _is(path: Path, md5: str, *, legacy: bool) -> bool:
    """Whether a file has an MD5; versions of DVC before 3 took that of text without carriage returns."""
    digest, unix = hashlib.md5(usedforsecurity=False), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        rest = b""
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            if legacy:
                chunk = rest + chunk
                rest = chunk[-1:] if chunk.endswith(b"\r") else b""
                unix.update(chunk[: len(chunk) - len(rest)].replace(b"\r\n", b"\n"))
        unix.update(rest)
    return digest.hexdigest() == md5 or (legacy and unix.hexdigest() == md5)


def _config(root: Path) -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None, strict=False)
    for name in ("config", "config.local"):
        try:
            config.read(root / _FOLDER / name, encoding="utf-8")
        except configparser.Error:
            continue
    return config


def _remote(root: Path) -> dict[str, str] | None:
    config = _config(root)
    name = config.get("core", "remote", fallback="")
    section = f"'remote \"{name}\"'"
    if not name or not config.has_option(section, "url"):
        return None
    url = config.get(section, "url")
    if "://" not in url and not Path(url).is_absolute():
        url = os.path.normpath(root / _FOLDER / url)
    return {"name": name, "url": without_password(url)}


def _cache_folder(root: Path) -> Path:
    return root / _FOLDER / _config(root).get("cache", "dir", fallback="cache")


def _git(root: Path, *arguments: str) -> bytes | None:
    git = _git_command()
    if git is None:
        return None
    done = subprocess.run([git, "-C", str(root), *arguments], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


@cache
def _git_command() -> str | None:
    return shutil.which("git")
