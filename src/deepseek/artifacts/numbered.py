"""Folders that are numbered from 1, side by side: runs (`001`), searches (`tune-001`) and others."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deepseek.artifacts.files import plain_disk_errors


def numbered(parent: Path, prefix: str = "") -> list[Path]:
    """Return what is numbered in a folder, in the order of the numbers.

    Args:
        parent: The folder.
        prefix: What stands before the number, such as `tune-`.
    """
    found = [(_number(child, prefix), child) for child in parent.glob(f"{prefix}*")]
    return [child for number, child in sorted(found) if number >= 0]


def next_numbered(parent: Path, prefix: str = "") -> Path:
    """Make the next free folder; an existing one is never touched, also not by a process that runs beside.

    Args:
        parent: Where it goes; made if it is not there.
        prefix: What stands before the number.

    Raises:
        RunError: The folder cannot be written to.
    """
    with plain_disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        taken = numbered(parent, prefix)
        number = (_number(taken[-1], prefix) if taken else 0) + 1
        while True:
            folder = parent / f"{prefix}{number:03d}"
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
            else:
                return folder


@contextmanager
def gone_if_bare(folder: Path, *, asked: Collection[str] = ()) -> Iterator[None]:
    """Take a new folder away again where the block fails before it has made anything in it; its number is free again then.

    Args:
        folder: A folder that was made just now.
        asked: The names of files in it that only say what was asked for.
    """
    try:
        yield
    except BaseException:
        with suppress(OSError):  # the first error is the one to be told
            if {path.name for path in folder.iterdir()} <= set(asked):
                shutil.rmtree(folder)
        raise


def _number(path: Path, prefix: str) -> int:
    """Return the number of a folder; -1 where it has none."""
    found = re.fullmatch(r"[0-9]+", path.name.removeprefix(prefix)) if path.name.startswith(prefix) else None
    return int(found.group()) if found else -1
