"""The stage cache: what was computed from the same content with the same settings is found again, and says what it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deepseek.artifacts.files import fresh_folder, read_json, sha256_json, write_json

_KEY = "key.json"


class StageCache:
    """Folders of results, found by what they were made from.

    Args:
        root: Where the cache lies, for example `runs/.cache`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, stage: str, key: Mapping[str, Any], build: Callable[[Path], None]) -> tuple[Path, bool]:
        """Return the folder of a stage's result, building it if it is not there.

        Args:
            stage: The stage's name, for example `"prepared"`.
            key: Everything that the result depends on, as plain JSON values: content hashes, settings, the version of the stage's code.
            build: Fills the (empty, temporary) folder that it is given; if it raises, nothing is left behind.

        Returns:
            The folder, and whether it was found rather than built.
        """
        target = self.root / stage / sha256_json(key)[:32]
        if (target / _KEY).is_file():
            return target, True
        with fresh_folder(target) as folder:
            build(folder)
            write_json(folder / _KEY, dict(key))
        return target, False

    def explain(self, stage: str) -> list[dict[str, Any]]:
        """Return what each kept result of a stage was made from, the newest last."""
        keys = sorted((self.root / stage).glob(f"*/{_KEY}"), key=lambda path: path.stat().st_mtime)
        return [{"folder": str(path.parent), **read_json(path)} for path in keys]
