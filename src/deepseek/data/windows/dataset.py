"""Windows as a dataset: the prepared steps, memory-mapped, and where each window begins; a batch is one gather an array.

A window costs 8 bytes on disk, whatever its length: of 10,000 steps with 7 targets, windows of 336 + 96 steps would be 116 MB as rows,
and are 0.4 MB so.

On disk: `steps/` holds the arrays of all steps, `steps.json` what they are; each part, `train/` and so on, has `starts.npy` and a
`manifest.json` that is written last.

Legend of shapes: `n` steps · `b` windows · `l` steps of a window · `c` target columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from deepseek.artifacts import read_json, sha256_file, write_json
from deepseek.data.batch import Batch
from deepseek.data.prepared import Column, PreparedDataset
from deepseek.data.transforms.base import InputSpec
from deepseek.data.windows.preparation import carried_forward
from deepseek.data.windows.rules import HISTORY, HISTORY_KNOWN, NAIVE_ERROR, role_of
from deepseek.errors import DataError, InputError

FORMAT_VERSION = 1
TARGET = "target"
STEPS = "steps"
_MANIFEST, _ABOUT, _STARTS = "manifest.json", "steps.json", "starts.npy"
_INNER = ("rows", "numbers", "starts", "errors")


@dataclass(frozen=True)
class StepArrays:
    """The prepared steps of all series.

    Attributes:
        arrays: By input name, `[n, …]`; of static inputs `[series, …]`.
        rows: int64 `[n]`: the table's row behind each step, -1 where there is none.
        numbers: int64 `[n]`: which step of the grid each is.
        starts: int64 `[series + 1]`: where each series begins and ends.
        errors: float32 `[series, c]`: the naive forecast's error in training, NaN where it is not known.
    """

    arrays: Mapping[str, np.ndarray]
    rows: np.ndarray
    numbers: np.ndarray
    starts: np.ndarray
    errors: np.ndarray

    def save(self, folder: Path) -> None:
        """Write the small arrays and the description of all; those of the steps are there already, written in place by `new_array`."""
        for name, array in (("rows", self.rows), ("numbers", self.numbers), ("starts", self.starts), ("errors", self.errors)):
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        write_json(folder / _ABOUT, {"format_version": FORMAT_VERSION, "arrays": list(self.arrays)}, durable=False)

    @classmethod
    def open(cls, folder: Path) -> StepArrays:
        """Map what was saved.

        Raises:
            DataError: It is not there, or of another version.
        """
        try:
            about = read_json(folder / _ABOUT)
            named = {name: _mapped(array_path(folder, place)) for place, name in enumerate(about["arrays"])}
            return cls(named, *(_mapped(folder / f"{name}.npy") for name in _INNER))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{folder} holds no complete steps: {error}", hint="delete its folder and prepare the data again") from error


def array_path(folder: Path, place: int) -> Path:
    """Return the file of the array that stands at this place of the description."""
    return folder / f"array_{place}.npy"


def new_array(folder: Path, place: int, *, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Return an array of steps on disk, to be written in place."""
    return open_memmap(array_path(folder, place), mode="w+", dtype=dtype, shape=shape)


class WindowDataset(PreparedDataset):
    """Windows over prepared steps; rows of this dataset are windows.

    A window holds `context` steps of `history` and of observed inputs, `context + horizon` steps of known inputs, and a series' static
    values. What an observed input was after the context is in no batch: no network can look at it.

    Args:
        steps: The prepared steps.
        starts: The first step of each window's context, int64 `[windows]`.
        inputs: What a network meets, by name, as `WindowPreparation.inputs` says.

    Attributes:
        steps: As given.
        starts: As given.
    """

    def __init__(self, steps: StepArrays, starts: np.ndarray, *, inputs: Mapping[str, InputSpec]) -> None:
        self.steps, self.starts = steps, np.asarray(starts, dtype=np.int64)
        history = inputs[HISTORY]
        self._context, self._horizon = history.shape[0], history.horizon
        self._series = np.searchsorted(steps.starts, self.starts, side="right") - 1
        columns = [Column(name, "input", spec.dtype, spec.shape) for name, spec in inputs.items()]
        count = history.shape[1]
        columns += [Column(TARGET, "target", "float32", (self._horizon, count)), Column(NAIVE_ERROR, "target", "float32", (count,))]
        source = np.asarray(steps.rows[self.starts + self._context - 1]) if len(self.starts) else np.empty(0, dtype=np.int64)
        super().__init__(tuple(columns), {"int64": self.starts.reshape(-1, 1)}, inputs=inputs, source_rows=source)

    @property
    def row_bytes(self) -> int:
        """The bytes of one window in a batch."""
        return sum(column.width * np.dtype(column.dtype).itemsize for column in self.layout)

    def column(self, name: str) -> np.ndarray:
        """Return an array of all windows, gathered: `[windows, …]`; memory grows with their length.

        Args:
            name: An input's or a target's.

        Raises:
            InputError: There is none of this name.
        """
        batch = self.take(np.arange(len(self)))
        found = {**batch.inputs, **batch.targets}
        if name not in found:
            raise InputError(f"there is no array {name!r}", hint=f"allowed: {', '.join(found)}")
        return np.asarray(found[name].numpy())

    def take(self, rows: np.ndarray | Sequence[int], *, pin: bool = False, ragged: bool = True) -> Batch:
        """Return windows as a batch of their own memory.

        Args:
            rows: Which windows, in any order, repeated or not; int64 `[b]`.
            pin: Whether the memory is page-locked.
            ragged: Says nothing here.

        Raises:
            InputError: A window does not exist.
        """
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise InputError(f"windows {rows.min()} to {rows.max()} were asked for; there are {len(self)}", hint="windows count from 0")
        starts, series = self.starts[rows], self._series[rows]
        arrays = {}
        for name, spec in self.inputs.items():
            if name in (HISTORY, HISTORY_KNOWN):
                continue
            source = self.steps.arrays[name]
            arrays[name] = source[series] if role_of(name) == "static" else self._gather_steps(source, starts, spec.shape[0])
        values = self._gather_steps(self.steps.arrays[HISTORY], starts, self._context + self._horizon)
        past, known = carried_forward(values[:, : self._context])
        arrays |= {HISTORY: past, **({HISTORY_KNOWN: known} if HISTORY_KNOWN in self.inputs else {})}
        targets = {TARGET: values[:, self._context :], NAIVE_ERROR: self.steps.errors[series]}
        ordered = {name: _tensor(arrays[name], pin=pin) for name in self.inputs}
        return Batch(ordered, {name: _tensor(array, pin=pin) for name, array in targets.items()}, None, torch.from_numpy(rows))

    @staticmethod
    def _gather_steps(source: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
        return np.take(source, starts[:, None] + np.arange(length), axis=0)

    def save(self, folder: Path) -> None:
        """Write which windows there are; the steps lie in `steps` beside the folder, saved already."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / _STARTS, self.starts, allow_pickle=False)
        files = {_STARTS: folder / _STARTS}
        files |= {f"../{STEPS}/{path.name}": path for path in sorted((folder.parent / STEPS).iterdir())}
        manifest = {
            "windows": FORMAT_VERSION,
            "rows": len(self),
            "inputs": [spec.to_json() for spec in self.inputs.values()],
            "files": {name: {"size_bytes": path.stat().st_size, "sha256": sha256_file(path)} for name, path in files.items()},
        }
        write_json(folder / _MANIFEST, manifest, durable=False)

    @classmethod
    def open_windows(cls, folder: Path) -> WindowDataset:
        """Open windows that `save` wrote; nothing is read but descriptions.

        Raises:
            DataError: They are not there, or not as they were written.
        """
        manifest = read_json(folder / _MANIFEST)
        for name, entry in manifest["files"].items():
            if not (folder / name).is_file() or (folder / name).stat().st_size != entry["size_bytes"]:
                raise DataError(f"{folder / name} is missing or not as it was written", hint="delete its folder and prepare the data again")
        inputs = {entry["name"]: InputSpec.from_json(entry) for entry in manifest["inputs"]}
        return cls(StepArrays.open(folder.parent / STEPS), np.load(folder / _STARTS, allow_pickle=False), inputs=inputs)


def is_windows(folder: Path) -> bool:
    """Whether a prepared folder holds windows."""
    return (folder / _STARTS).is_file() and (folder / _MANIFEST).is_file()


def _tensor(array: np.ndarray, *, pin: bool) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory() if pin else tensor


def _mapped(path: Path) -> np.ndarray:
    found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return found
