"""The folder of a run: everything that was given, decided, measured and made."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepseek.artifacts.files import plain_disk_errors, write_json
from deepseek.artifacts.numbered import gone_if_bare, next_numbered, numbered
from deepseek.errors import BundleError

ORIGIN = "origin.json"
"""A file beside a recipe that was written by the framework: the folder that its relative paths start at."""
HELD = "held.json"
"""A file in the folder of a run that does not stand for its name: one that is not, or no more, deployed. It says why."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths inside `runs/NAME/NNN`.

    Attributes:
        path: The folder itself.
    """

    path: Path

    @classmethod
    def create(cls, out: Path, name: str) -> RunFolder:
        """Make the next free folder `out/name/NNN`; an existing one is never touched, also not by a process that runs beside.

        Raises:
            RunError: The folder cannot be written to.
        """
        return cls(next_numbered(out / name))

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return an existing run: its own folder, its bundle, or the folder of its name (then the newest run in it that is not held).

        Raises:
            BundleError: There is no run there.
        """
        if path.name == "bundle" and (path.parent / "recipe.yaml").is_file():
            path = path.parent
        if (path / "recipe.yaml").is_file():
            return cls(path)
        found = [child for child in standing_runs(path) if (child / "recipe.yaml").is_file()]
        if not found:
            raise BundleError(f"{path} is no run", hint="give the folder that `deepseek train` printed, for example runs/NAME/001")
        return cls(found[-1])

    def gone_if_bare(self, *asked: str) -> AbstractContextManager[None]:
        """Return a block that takes the folder, made just now, away again where it fails before it has made anything.

        Args:
            asked: The names of files that only say what was asked for, and by whom, beside the recipe and what was decided before.
        """
        return gone_if_bare(self.path, asked=(self.recipe.name, ORIGIN, self.decisions.name, *asked))

    @property
    def held(self) -> bool:
        """Whether the run does not stand for its name."""
        return (self.path / HELD).is_file()

    def hold(self, why: str) -> None:
        """Let the name of the run stand for other runs, until it is released.

        Args:
            why: The reason, in words.

        Raises:
            RunError: The folder cannot be written to.
        """
        write_json(self.path / HELD, {"why": why})

    def release(self) -> None:
        """Let the name stand for this run again, if it is the newest."""
        with plain_disk_errors(self.path):
            (self.path / HELD).unlink(missing_ok=True)

    @property
    def recipe(self) -> Path:
        """The recipe as it was given, or as it was made up for a bare file."""
        return self.path / "recipe.yaml"

    @property
    def resolved(self) -> Path:
        """The recipe with every default and decision filled in."""
        return self.path / "resolved.yaml"

    @property
    def decisions(self) -> Path:
        """What `auto` decided, why, and what it measured."""
        return self.path / "decisions.json"

    @property
    def data(self) -> Path:
        """Where the rows came from: files and their hashes, counts, schema, split sizes, warnings."""
        return self.path / "data.json"

    @property
    def events(self) -> Path:
        """One JSON line for each thing that happened."""
        return self.path / "events.jsonl"

    @property
    def metrics(self) -> Path:
        """The final metrics on validation and test rows."""
        return self.path / "metrics.json"

    @property
    def checkpoints(self) -> Path:
        """What `--resume` goes on from."""
        return self.path / "checkpoints"

    @property
    def rejects(self) -> Path:
        """The rows that were set aside, with the reason."""
        return self.path / "rejects"

    @property
    def bundle(self) -> Path:
        """The model, ready to predict anywhere."""
        return self.path / "bundle"

    @property
    def export(self) -> Path:
        """The exported bundles, a folder each."""
        return self.path / "export"


def export_name(spec: str | Mapping[str, Any]) -> str:
    """Return the name of the folder that an export stands in, among those of its run: its format, with what is not float32 behind it.

    Args:
        spec: The exporter's.

    Example:
        >>> export_name("onnx"), export_name({"type": "openvino", "precision": "bf16"})
        ('onnx', 'openvino-bf16')
    """
    if isinstance(spec, str):
        return spec
    precision = spec.get("precision", "fp32")
    return str(spec["type"]) if precision == "fp32" else f"{spec['type']}-{precision}"


def standing_runs(name: Path) -> list[Path]:
    """Return the numbered folders below that of a name which may stand for it, in order: all but those that are held."""
    return [child for child in numbered(name) if not (child / HELD).is_file()]
