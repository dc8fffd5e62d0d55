"""The folder of a search: its recipe, its study, its trials and what came of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepseek.artifacts.files import plain_disk_errors
from deepseek.artifacts.numbered import next_numbered, numbered
from deepseek.errors import BundleError

_PREFIX = "tune-"


@dataclass(frozen=True, slots=True)
class TuneFolder:
    """The paths inside `runs/NAME/tune-NNN`.

    Attributes:
        path: The folder itself.
    """

    path: Path

    @classmethod
    def create(cls, out: Path, name: str) -> TuneFolder:
        """Make the next free folder `out/name/tune-NNN`; an existing one is never touched.

        Raises:
            RunError: The folder cannot be written to.
        """
        return cls(next_numbered(out / name, _PREFIX))

    @classmethod
    def open(cls, path: Path) -> TuneFolder:
        """Return an existing search: its own folder, or the folder of its name (then the newest search in it).

        Raises:
            BundleError: There is no search there.
        """
        if (path / "search.json").is_file():
            return cls(path)
        found = [child for child in numbered(path, _PREFIX) if (child / "search.json").is_file()]
        if not found:
            raise BundleError(f"{path} is no search", hint="give the folder that `deepseek tune` printed, for example runs/NAME/tune-001")
        return cls(found[-1])

    @property
    def recipe(self) -> Path:
        """The recipe that is tuned, its section `tune` with it."""
        return self.path / "recipe.yaml"

    @property
    def search(self) -> Path:
        """What the study is called and what it is about: name, space, metric, direction."""
        return self.path / "search.json"

    @property
    def study(self) -> Path:
        """The study, where no other storage was named."""
        return self.path / "study.db"

    @property
    def rows(self) -> Path:
        """One JSON line for each trial that ended."""
        return self.path / "trials.jsonl"

    @property
    def best(self) -> Path:
        """A whole recipe: that of the best trial, which it repeats exactly."""
        return self.path / "best.yaml"

    @property
    def facts(self) -> Path:
        """Everything that came of the search."""
        return self.path / "tune.json"

    @property
    def page(self) -> Path:
        """The same for people."""
        return self.path / "tune.html"

    def trial(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.path / "trials" / f"{number:03d}"

    def append(self, row: dict[str, Any]) -> None:
        """Write down a trial that has ended; a line is written at once, so that several processes may."""
        with plain_disk_errors(self.rows), self.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, default=str) + "\n")
