"""Prepared rows, read: a batch is one gather a block.

Legend of shapes: `b` rows · `l` the longest row of a ragged column.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepseek.data.batch import Batch, mask_name, pad
from deepseek.data.prepared.layout import FORMAT_VERSION, Column, Layout, Role, column_of, widths
from deepseek.data.prepared.wholes import Wholes
from deepseek.data.transforms.base import Array, InputSpec, Ragged
from deepseek.errors import DataError, InputError


class PreparedDataset:
    """Rows ready for a model, in memory or memory-mapped. It can be used by itself in a hand-written training loop.

    Args:
        layout: The arrays.
        blocks: By NumPy type, `[rows, width]`.
        ragged: By name, the columns of unequal length.
        inputs: What the inputs are, for a model.
        source_rows: For each row, its index in the table it came from, int64; its own index where not given.

    Attributes:
        inputs: What the inputs are, by name.
        source_rows: Where each row came from, or nothing.
        wholes: The rows whose picture is larger than the input, whole; nothing where there is none.

    Example:
        >>> import numpy as np
        >>> data = PreparedDataset.from_arrays({"x": np.eye(3, dtype=np.float32)}, {"y": np.arange(3)})
        >>> data.take(np.array([2, 0])).targets["y"]
        tensor([2, 0])
    """

    wholes: Wholes | None = None

    def __init__(
        self,
        layout: Layout,
        blocks: Mapping[str, np.ndarray],
        *,
        ragged: Mapping[str, Ragged] | None = None,
        inputs: Mapping[str, InputSpec] | None = None,
        source_rows: np.ndarray | None = None,
    ) -> None:
        self.layout, self.inputs, self.source_rows = layout, dict(inputs or {}), source_rows
        self._blocks, self._ragged = dict(blocks), dict(ragged or {})
        sizes = {len(block) for block in self._blocks.values()} | {len(column.offsets) - 1 for column in self._ragged.values()}
        if len(sizes) != 1:
            raise InputError(f"the arrays have {', '.join(map(str, sorted(sizes))) or 'no'} rows", hint="all must have equally many")
        self._rows = sizes.pop()
        self._places: dict[str, int] = {}
        ends: dict[str, int] = {}
        for column in layout:
            if not column.ragged:
                self._places[column.name] = ends.get(column.dtype, 0)
                ends[column.dtype] = self._places[column.name] + column.width

    @classmethod
    def from_arrays(
        cls,
        inputs: Mapping[str, Array | Tensor],
        targets: Mapping[str, Array | Tensor] | None = None,
        *,
        weight: np.ndarray | Tensor | None = None,
        specs: Mapping[str, InputSpec] | None = None,
    ) -> PreparedDataset:
        """Return a dataset in memory.

        Args:
            inputs: By name, arrays or tensors `[rows, …]`, or ragged columns.
            targets: By name, arrays or tensors `[rows, …]`, or ragged columns.
            weight: One weight a row.
            specs: What the inputs are, where a model is to be built for them.
        """
        named = _named(inputs, targets or {}, weight)
        layout = tuple(column_of(name, role, array) for (role, name), array in named.items())
        arrays = {column.name: array for column, array in zip(layout, named.values(), strict=True)}
        if len(arrays) < len(layout):
            raise InputError(
                f"inputs, targets and weight share a name among {', '.join(name for _, name in named)}", hint="names must differ"
            )
        blocks = {}
        for dtype, width in widths(layout).items():
            members = [arrays[column.name] for column in layout if column.dtype == dtype and not column.ragged]
            flat = [np.asarray(member).reshape(len(member), -1) for member in members if isinstance(member, np.ndarray)]
            if len({len(part) for part in flat}) != 1:
                raise InputError(f"the arrays have {', '.join(str(len(part)) for part in flat)} rows", hint="all must have equally many")
            blocks[dtype] = np.ascontiguousarray(flat[0]) if len(flat) == 1 else np.concatenate(flat, axis=1)
            assert blocks[dtype].shape[1] == width
        return cls(layout, blocks, ragged={name: array for name, array in arrays.items() if isinstance(array, Ragged)}, inputs=specs)

    @classmethod
    def open(cls, folder: Path | str, *, verify: bool = False) -> PreparedDataset:
        """Open a folder that `PreparedWriter` wrote; nothing is read but the manifest.

        Args:
            folder: The folder.
            verify: Whether every byte is compared with the hashes of the manifest.

        Raises:
            DataError: The folder is not there, incomplete, truncated, changed or of another version.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        for name, entry in manifest["files"].items():
            path = folder / name
            size = path.stat().st_size if path.is_file() else -1
            if size != entry["size_bytes"] or (verify and _hash(path) != entry["sha256"]):
                raise DataError(
                    f"the prepared file {path} is missing or not as it was written", hint="delete its folder and prepare the data again"
                )
        layout = tuple(Column(**{**column, "shape": tuple(column["shape"])}) for column in manifest["layout"])
        rows = manifest["rows"]
        blocks = {dtype: _map(folder / f"block_{dtype}.bin", dtype, (rows, width)) for dtype, width in widths(layout).items()}
        ragged = {}
        for index, column in enumerate(column for column in layout if column.ragged):
            offsets = _map(folder / f"ragged_{index}.offsets.bin", "int64", (rows + 1,))
            ragged[column.name] = Ragged(
                _map(folder / f"ragged_{index}.values.bin", column.dtype, (int(offsets[-1]), *column.shape)), offsets
            )
        inputs = {entry["name"]: InputSpec.from_json(entry) for entry in manifest["inputs"]}
        made = cls(layout, blocks, ragged=ragged, inputs=inputs, source_rows=_map(folder / "rows.bin", "int64", (rows,)))
        made.wholes = Wholes.open(folder)
        return made

    def __len__(self) -> int:
        return self._rows

    @property
    def row_bytes(self) -> int:
        """The bytes of one row, ragged columns not counted."""
        return sum(block.shape[1] * block.itemsize for block in self._blocks.values())

    @property
    def is_ragged(self) -> bool:
        """Whether rows are of unequal length, and so padded to the longest of their batch."""
        return bool(self._ragged)

    def source_numbers(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the numbers that rows have in the table they came from, int64 `[b]`; their own places where that is not known.

        Args:
            rows: Which rows, int64 `[b]`; all where not given.
        """
        places: np.ndarray = np.arange(len(self)) if rows is None else rows
        return places if self.source_rows is None else np.asarray(self.source_rows[places], dtype=np.int64)

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return how many elements rows have in all ragged columns together, int64 `[b]`; zeros where there is no such column.

        Args:
            rows: Which rows, int64 `[b]`.
        """
        total = np.zeros(len(rows), dtype=np.int64)
        for column in self._ragged.values():
            total += column.offsets[rows + 1] - column.offsets[rows]
        return total

    def column(self, name: str) -> np.ndarray:
        """Return an array of all rows, without a copy: `[rows, …]`; not for ragged ones.

        Args:
            name: An input's, a target's, or `weight`.

        Raises:
            InputError: There is none of this name whose rows are of one length.
        """
        found = next((column for column in self.layout if column.name == name and not column.ragged), None)
        if found is None:
            raise InputError(f"there is no array {name!r}", hint=f"allowed: {', '.join(self._places)}")
        place = self._places[name]
        return np.asarray(self._blocks[found.dtype][:, place : place + found.width]).reshape(self._rows, *found.shape)

    @property
    def batch_rows(self) -> int | None:
        """How many rows every batch must have, in the rows' own order; nothing where neither matters."""
        return None

    def values(self, name: str) -> np.ndarray:
        """Return the elements of a column of unequal length, all rows one after the other, without a copy.

        Args:
            name: The column.
        """
        return self._ragged[name].values

    def ragged(self, name: str, rows: np.ndarray) -> Ragged:
        """Return rows of a column of unequal length, not padded.

        Args:
            name: The column.
            rows: Which rows, in any order, int64 `[b]`.
        """
        return self._ragged[name].take(rows)

    def take(self, rows: np.ndarray | Sequence[int], *, pin: bool = False, ragged: bool = True) -> Batch:
        """Return rows as a batch of their own memory.

        A ragged input or target `NAME` comes as `NAME` `[b, l, …]`, zeros behind each row's end, and `NAME_mask` `[b, l]`, true where an
        element is real.

        Args:
            rows: Which rows, in any order, repeated or not; int64 `[b]`.
            pin: Whether the memory is page-locked.
            ragged: Whether ragged columns come along; without, a long row fills no memory.

        Raises:
            InputError: A row does not exist.
        """
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= self._rows):
            raise InputError(f"rows {rows.min()} to {rows.max()} were asked for; there are {self._rows}", hint="rows count from 0")
        gathered = {dtype: self._gather(block, rows, pin=pin) for dtype, block in self._blocks.items()}
        batch = Batch({}, {}, None, torch.from_numpy(rows))
        for column in self.layout:
            if column.ragged and not ragged:
                continue
            held = batch.targets if column.role == "target" else batch.inputs
            if column.ragged:
                held[column.name], held[mask_name(column.name)] = pad(self._ragged[column.name], rows, pin=pin)
                continue
            place, block = self._places[column.name], gathered[column.dtype]
            tensor = block[:, place : place + column.width].reshape(len(rows), *column.shape)
            if column.role == "weight":
                batch.weight = tensor
            else:
                held[column.name] = tensor
        return batch

    @staticmethod
    def _gather(block: np.ndarray, rows: np.ndarray, *, pin: bool) -> Tensor:
        out = torch.empty((len(rows), block.shape[1]), dtype=_torch_type(block.dtype), pin_memory=pin)
        # mode="clip": with "raise" NumPy gathers into a copy first; the rows were checked above
        np.take(block, rows, axis=0, out=out.numpy(), mode="clip")
        return out


def _named(
    inputs: Mapping[str, Array | Tensor], targets: Mapping[str, Array | Tensor], weight: np.ndarray | Tensor | None
) -> dict[tuple[Role, str], Array]:
    named: dict[tuple[Role, str], Array] = {("input", name): _numpy(array) for name, array in inputs.items()}
    named |= {("target", name): _numpy(array) for name, array in targets.items()}
    if weight is not None:
        named["weight", "weight"] = np.asarray(_numpy(weight), dtype=np.float32)
    return named


def _numpy(array: Array | Tensor) -> Array:
    if isinstance(array, Tensor):
        plain: np.ndarray = array.detach().cpu().numpy()
        return plain
    return array if isinstance(array, Ragged) else np.asarray(array)


def _torch_type(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype=dtype)).dtype


def _map(path: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    if 0 in shape:
        return np.empty(shape, dtype=dtype)
    return np.memmap(path, dtype=np.dtype(dtype).newbyteorder("<"), mode="r", shape=shape)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{folder} holds no complete prepared data: {error.strerror}", hint="prepare the data again") from error
    except ValueError as error:
        raise DataError(f"{folder / 'manifest.json'} is no JSON: {error}", hint="delete the folder and prepare the data again") from error
    if manifest.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{folder} is of format version {manifest.get('format_version')!r}, not {FORMAT_VERSION}",
            hint="prepare the data again with this version",
        )
    return manifest


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
