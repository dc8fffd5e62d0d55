"""Columns written one after the other and read back as rows: a feature table need not fit into memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Self

import numpy as np

from deepseek.artifacts.files import plain_disk_errors


class Spool:
    """A table of numbers in a temporary file that nobody else sees, and that is gone at the end of the `with` block.

    Args:
        rows: How many rows it has.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._places: dict[str, int] = {}
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `__exit__`

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, name: str, column: np.ndarray) -> None:
        """Add a column.

        Args:
            name: Its name.
            column: float64 `[rows]`.

        Raises:
            RunError: The disk is full.
        """
        with plain_disk_errors(Path(tempfile.gettempdir())):
            self._file.seek(8 * self._rows * len(self._places))
            self._file.write(np.ascontiguousarray(column, dtype=np.float64).data)
            self._file.flush()
        self._places[name] = len(self._places)

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return rows of a column, from `start` to one before `stop`."""
        self._file.seek(8 * (self._rows * self._places[name] + start))
        return np.frombuffer(self._file.read(8 * (stop - start)), dtype=np.float64)
