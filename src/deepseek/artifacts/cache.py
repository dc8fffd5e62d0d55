"""The stage cache: what was computed from the same content with the same settings is found again, and says what it was made from."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from deepseek.artifacts.files import fresh_folder, plain_disk_errors, read_json, sha256_json, write_json
from deepseek.errors import BundleError

CACHE = ".cache"
"""The name of the cache's folder beside the runs."""

_KEY = "key.json"
_FILES = "files.json"


class StageCache:
    """Folders of results, found by what they were made from.

    Args:
        root: Where the cache lies, for example `runs/.cache`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, stage: str, key: Mapping[str, Any], build: Callable[[Path], None]) -> tuple[Path, bool]:
        """Return the folder of a stage's result, building it if it is not there, or not as it was built.

        Files that are missing or were written to since are found by their sizes and times of change: hashing them would cost as much as
        the stage saves.

        Args:
            stage: The stage's name, for example `"prepared"`.
            key: Everything that the result depends on, as plain JSON values: content hashes, settings, the version of the stage's code.
            build: Fills the (empty, temporary) folder that it is given; if it raises, nothing is left behind.

        Returns:
            The folder, and whether it was found rather than built.
        """
        target = self.root / stage / sha256_json(key)[:32]
        stale = target.exists()  # asked first: what another process builds meanwhile is not to be taken away
        if _is_whole(target):
            return target, True
        if stale:
            with plain_disk_errors(target):
                _take_away(target)
        with fresh_folder(target) as folder:
            build(folder)
            # no wait for the disk: what a power cut leaves half written is not as it was built, and is built again
            write_json(folder / _FILES, _files(folder), durable=False)
            write_json(folder / _KEY, dict(key), durable=False)
        return target, False


def _take_away(folder: Path) -> None:
    """Delete a folder; another process that finds it not as it was built may do so at the same time."""
    old = folder.with_name(f".{folder.name}.{uuid4().hex}")
    try:
        folder.rename(old)
    except FileNotFoundError:
        return
    shutil.rmtree(old)


def _is_whole(folder: Path) -> bool:
    """Whether a kept result holds every file that was built, none of them changed."""
    try:
        read_json(folder / _KEY)
        built = read_json(folder / _FILES)
        present = _files(folder)
    except (BundleError, FileNotFoundError):  # another process may be taking it away
        return False
    return isinstance(built, dict) and all(present.get(name) == stamp for name, stamp in built.items())


def _files(folder: Path) -> dict[str, list[int]]:
    """Return size and time of change of every file below a folder."""
    files = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): [status.st_size, status.st_mtime_ns] for path, status in files}
