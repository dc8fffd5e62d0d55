"""Prepared rows, written batch by batch.

Legend of shapes: `b` rows · `l` the longest row of a ragged column.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from deepseek.data.prepared.layout import FORMAT_VERSION, Column, Layout, widths
from deepseek.data.transforms.base import Array, InputSpec, Ragged
from deepseek.errors import InputError, RunError


class PreparedWriter:
    """Writes a dataset batch by batch, in constant memory.

    Args:
        folder: Where it goes; made if it is not there, and must hold no dataset yet.
        layout: The arrays.
        inputs: What the inputs are.
        rows: About how many rows will come, so that a disk too small is known now and not after an hour.
        ragged_bytes: About how many bytes the ragged columns of a row take.

    Raises:
        RunError: The disk is full, the folder cannot be written to or is taken.

    Example:
        ```python
        with PreparedWriter(folder, layout, inputs=specs) as writer:
            writer.append({"numbers": numbers, "target": target}, rows)
        data = PreparedDataset.open(folder)
        ```
    """

    def __init__(
        self, folder: Path | str, layout: Layout, *, inputs: Mapping[str, InputSpec] | None = None, rows: int = 0, ragged_bytes: float = 0
    ) -> None:
        self._folder = Path(folder)
        self._layout, self._inputs, self._rows = layout, dict(inputs or {}), 0
        self._files: dict[str, IO[bytes]] = {}
        self._hashes: dict[str, Any] = {}
        self._totals = {column.name: 0 for column in layout if column.ragged}
        names = [column.name for column in layout]
        if len(set(names)) < len(names):
            raise InputError(f"two arrays share a name among {', '.join(names)}", hint="names must differ")
        if (self._folder / "manifest.json").exists():
            raise RunError(f"{self._folder} already holds prepared data", hint="choose another folder, or delete this one")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            needed = rows * (ragged_bytes + sum(np.dtype(dtype).itemsize * width for dtype, width in widths(layout).items()))
            free = shutil.disk_usage(self._folder).free
            if needed > free:
                raise RunError(
                    f"prepared data needs {needed / 2**30:.1f} GiB; {self._folder} has {free / 2**30:.1f} GiB free", hint="free some space"
                )
            for name in self._file_names():
                self._files[name] = (self._folder / name).open("wb")
                self._hashes[name] = hashlib.sha256()
        except OSError as error:
            self.close()
            raise self._failed(error) from error
        for index in range(len(self._totals)):
            self._write(f"ragged_{index}.offsets.bin", np.zeros(1, dtype=np.int64))

    def _file_names(self) -> list[str]:
        ragged = [f"ragged_{index}.{part}.bin" for index in range(len(self._totals)) for part in ("values", "offsets")]
        return [*(f"block_{dtype}.bin" for dtype in widths(self._layout)), *ragged, "rows.bin"]

    def append(self, arrays: Mapping[str, Array], source_rows: np.ndarray) -> None:
        """Write a batch.

        Args:
            arrays: Every array of the layout, by name, `[b, …]`.
            source_rows: Where each row came from, `[b]`.

        Raises:
            InputError: An array is missing, or not of the layout's type and shape.
            RunError: The disk is full or the folder has become unwritable.
        """
        count = len(source_rows)
        for dtype, width in widths(self._layout).items():
            members = [column for column in self._layout if column.dtype == dtype and not column.ragged]
            flat = [self._dense(arrays, column, count) for column in members]
            block = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)
            assert block.shape == (count, width)
            self._write(f"block_{dtype}.bin", block)
        for index, column in enumerate(column for column in self._layout if column.ragged):
            array = arrays.get(column.name)
            if not isinstance(array, Ragged) or len(array.offsets) != count + 1 or array.values.dtype != column.dtype:
                raise InputError(f"the array {column.name!r} is no ragged {column.dtype} of {count} rows", hint="give what the layout says")
            self._write(f"ragged_{index}.values.bin", array.values)
            self._write(f"ragged_{index}.offsets.bin", (array.offsets[1:] + self._totals[column.name]).astype(np.int64))
            self._totals[column.name] += int(array.offsets[-1])
        self._write("rows.bin", np.asarray(source_rows, dtype=np.int64))
        self._rows += count

    @staticmethod
    def _dense(arrays: Mapping[str, Array], column: Column, count: int) -> np.ndarray:
        array = arrays.get(column.name)
        if not isinstance(array, np.ndarray) or array.shape != (count, *column.shape) or array.dtype != column.dtype:
            given = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise InputError(f"the array {column.name!r} is {given}", hint=f"the layout says {column.dtype} {(count, *column.shape)}")
        return array.reshape(count, column.width)

    def _write(self, name: str, array: np.ndarray) -> None:
        if not array.size:
            return
        raw = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).reshape(-1).view(np.uint8)
        try:
            self._files[name].write(raw.data)
        except OSError as error:
            raise self._failed(error) from error
        self._hashes[name].update(raw.data)

    def _failed(self, error: OSError) -> RunError:
        return RunError(
            f"prepared data cannot be written to {self._folder}: {error.strerror or error}",
            hint="is there space, and may it be written to?",
        )

    def finish(self) -> None:
        """Close the files and write the manifest; before it, the folder is no dataset."""
        self.close()
        try:
            files = {
                name: {"size_bytes": (self._folder / name).stat().st_size, "sha256": hashed.hexdigest()}
                for name, hashed in self._hashes.items()
            }
            manifest = {
                "format_version": FORMAT_VERSION,
                "rows": self._rows,
                "layout": [asdict(column) for column in self._layout],
                "inputs": [spec.to_json() for spec in self._inputs.values()],
                "files": files,
            }
            partial = self._folder / "manifest.json.partial"
            partial.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            partial.replace(self._folder / "manifest.json")
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the files; without `finish` the folder stays incomplete."""
        files, self._files = self._files, {}
        try:
            for file in files.values():
                file.close()
        except OSError as error:
            raise self._failed(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.close()
