"""Pictures that are larger than the network's size, kept whole beside the prepared rows of a split.

They are measured as they are answered: window by window, to the last place.

Legend of shapes: `*space` height and width, or depth, height and width · `c` channels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from deepseek.errors import DataError

_MANIFEST, _VALUES, _MASKS = "wholes.json", "wholes.values.bin", "wholes.masks.bin"


@dataclass(frozen=True)
class WholeRow:
    """One row of a split, as large as it is.

    Attributes:
        row: Its place among the prepared rows, where it stands cut.
        values: `[*space, c]`, as the network's input holds it, at least as large as the network's size along each side.
        mask: Codes of its classes, uint8 `[*space]`.
    """

    row: int
    values: np.ndarray
    mask: np.ndarray


class Wholes:
    """The whole pictures of a split, read one at a time: they are as many bytes as the files themselves.

    Args:
        folder: The folder of the prepared rows.
        manifest: What `write_wholes` said of them.

    Attributes:
        name: The input.
        space: The network's size.
        rows: Which prepared rows they are, ascending, int64 `[n]`.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self._folder, self._dtype = folder, np.dtype(manifest["dtype"]).newbyteorder("<")
        self.name, self.space = str(manifest["input"]), tuple(manifest["space"])
        self.rows = np.array([one["row"] for one in manifest["pictures"]], dtype=np.int64)
        self._shapes = [tuple(one["shape"]) for one in manifest["pictures"]]
        self._values = np.cumsum([0, *(prod(shape) for shape in self._shapes)])
        self._masks = np.cumsum([0, *(prod(shape[:-1]) for shape in self._shapes)])

    @classmethod
    def open(cls, folder: Path) -> Wholes | None:
        """Return the whole pictures beside prepared rows; nothing where no row is larger than the network's size.

        Raises:
            DataError: They are not as they were written.
        """
        if not (folder / _MANIFEST).is_file():
            return None
        made = cls(folder, json.loads((folder / _MANIFEST).read_text(encoding="utf-8")))
        wanted = {_VALUES: int(made._values[-1]) * made._dtype.itemsize, _MASKS: int(made._masks[-1])}
        for name, size in wanted.items():
            if not (folder / name).is_file() or (folder / name).stat().st_size != size:
                raise DataError(
                    f"the prepared file {folder / name} is missing or not as it was written",
                    hint="delete its folder and prepare the data again",
                )
        return made

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, place: int) -> WholeRow:
        """Return one of them, by its place among `rows`."""
        shape = self._shapes[place]
        values = self._read(_VALUES, self._dtype, int(self._values[place]), shape)
        mask = self._read(_MASKS, np.dtype(np.uint8), int(self._masks[place]), shape[:-1])
        return WholeRow(int(self.rows[place]), values, mask)

    def _read(self, name: str, dtype: np.dtype[Any], start: int, shape: tuple[int, ...]) -> np.ndarray:
        read = np.fromfile(self._folder / name, dtype=dtype, count=prod(shape), offset=start * dtype.itemsize)
        return np.ascontiguousarray(read.reshape(shape), dtype=dtype.newbyteorder("="))


def write_wholes(folder: Path, pictures: Iterable[WholeRow], *, name: str, space: Sequence[int], dtype: str) -> int:
    """Write whole pictures beside prepared rows, and return how many there were; without any no file is written.

    Args:
        folder: The folder of the prepared rows.
        pictures: In the order of their rows; held in memory one at a time.
        name: The input that they are.
        space: The network's size.
        dtype: The NumPy type of the input.
    """
    told: list[dict[str, Any]] = []
    with (folder / _VALUES).open("wb") as values, (folder / _MASKS).open("wb") as masks:
        for one in pictures:
            values.write(np.ascontiguousarray(one.values, dtype=np.dtype(dtype).newbyteorder("<")).data)
            masks.write(np.ascontiguousarray(one.mask, dtype=np.uint8).data)
            told.append({"row": one.row, "shape": list(one.values.shape)})
    if not told:
        (folder / _VALUES).unlink()
        (folder / _MASKS).unlink()
        return 0
    manifest = {"input": name, "space": list(space), "dtype": dtype, "pictures": told}
    (folder / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")  # last: what is broken off is never opened
    return len(told)
