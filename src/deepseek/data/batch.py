"""A batch of rows as tensors; rows of unequal length are padded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deepseek.data.padding import MASK, PADDED_ELEMENTS, as_arrays, in_array_pieces, mask_name, mask_of
from deepseek.data.padding import pad as pad_arrays
from deepseek.data.transforms.base import Array, Ragged

__all__ = ["MASK", "PADDED_ELEMENTS", "Batch", "as_inputs", "in_pieces", "labelled_pieces", "mask_name", "pad", "with_channels_last"]


@dataclass(slots=True)
class Batch:
    """Rows as tensors; registered as a pytree, so that `torch.compile`, `torch.export` and `tree_map` see through it.

    Legend of shapes: `b` rows · `l` the longest of them.

    Attributes:
        inputs: By input name, `[b, …]`; of a ragged input `NAME` `[b, l, …]`, zeros behind each row's end, and `NAME_mask` bool `[b, l]`.
        targets: By target name, `[b, …]`: class indices (int64), 0/1 floats for binary and multi-label, floats for regression, codes of
            classes (uint8) for masks; of a ragged target `[b, l, …]` with `NAME_mask` beside it, as of an input.
        weight: One weight a row, float32 `[b]`, or nothing where all weigh 1.
        row: Each row's index in its prepared dataset, int64 `[b]`; empty for rows that come from no dataset.
    """

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor] = field(default_factory=dict)
    weight: Tensor | None = None
    row: Tensor | None = None

    def __len__(self) -> int:
        return next(iter(self.inputs.values())).shape[0]

    def to(self, device: torch.device | str, *, non_blocking: bool = True) -> Batch:
        """Return the batch on a device; `row` stays where it is."""

        def move(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in tensors.items()}

        weight = None if self.weight is None else self.weight.to(device, non_blocking=non_blocking)
        return Batch(move(self.inputs), move(self.targets), weight, self.row)

    def split(self, rows: int, *, least: int = 1) -> list[Batch]:
        """Return the batch in pieces, in order, without copying; on a processor, ragged inputs are trimmed to a piece's longest row.

        Args:
            rows: The most rows of a piece, but for `least`.
            least: The fewest; a smaller last piece is joined to the one before, and a batch that is smaller itself stays whole.
        """
        size = max(rows, least)
        starts = [start for start in range(0, len(self), size) if start == 0 or len(self) - start >= least]
        return [self._slice(start, stop).trimmed() for start, stop in zip(starts, [*starts[1:], len(self)], strict=True)]

    def trimmed(self) -> Batch:
        """Return the batch without the columns of ragged inputs and targets that are padding in every row.

        On an accelerator the batch stays as it is: to look at the mask is to wait for the device.
        """
        return Batch(_trimmed(self.inputs), _trimmed(self.targets), self.weight, self.row)

    def cut(self, sizes: Sequence[int]) -> list[Batch]:
        """Return the batch in pieces of so many rows each, in order, without copying."""
        lengths = list(sizes)
        inputs = {name: torch.split(tensor, lengths) for name, tensor in self.inputs.items()}
        targets = {name: torch.split(tensor, lengths) for name, tensor in self.targets.items()}
        weight = None if self.weight is None else torch.split(self.weight, lengths)
        row = None if self.row is None else torch.split(self.row, lengths)
        return [
            Batch(
                {name: parts[index] for name, parts in inputs.items()},
                {name: parts[index] for name, parts in targets.items()},
                None if weight is None else weight[index],
                None if row is None else row[index],
            )
            for index in range(len(lengths))
        ]

    def _slice(self, start: int, stop: int) -> Batch:
        def cut(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor[start:stop] for name, tensor in tensors.items()}

        weight = None if self.weight is None else self.weight[start:stop]
        row = None if self.row is None else self.row[start:stop]
        return Batch(cut(self.inputs), cut(self.targets), weight, row)


def _trimmed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    made = dict(tensors)
    for name, mask in tensors.items():
        values = tensors.get(name.removesuffix(MASK))
        if not name.endswith(MASK) or values is None or mask.device.type != "cpu" or mask.dtype != torch.bool:
            continue
        filled = mask.any(dim=0).nonzero()  # a box that an augmentation moved away leaves a gap in its row
        longest = int(filled[-1]) + 1 if len(filled) else 1
        made[name], made[name.removesuffix(MASK)] = mask[:, :longest], values[:, :longest]
    return made


def as_inputs(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """Return what `Preparation.apply` gave as what a model is given: tensors by name, rows of unequal length padded.

    Args:
        arrays: By input name, with equally many rows. Memory is shared where it can be written to.
    """
    return {name: torch.from_numpy(array) for name, array in as_arrays(arrays).items()}


def in_pieces(arrays: Mapping[str, Array], *, most: int = PADDED_ELEMENTS) -> Iterator[tuple[np.ndarray | None, dict[str, Tensor]]]:
    """Yield the rows of prepared arrays as tensors, in pieces that fit into memory, as `in_array_pieces` cuts them.

    Args:
        arrays: By input name, with equally many rows.
        most: The most elements of a piece's ragged inputs, padding included; a single row may have more.

    Yields:
        Which rows they are, int64 `[b]`, or nothing for all of them in order; and the tensors by name.
    """
    for rows, inputs in in_array_pieces(arrays, most=most):
        yield rows, {name: torch.from_numpy(array) for name, array in inputs.items()}


def labelled_pieces(
    arrays: Mapping[str, Array], targets: Mapping[str, Array]
) -> Iterator[tuple[np.ndarray | None, dict[str, Tensor], dict[str, Tensor]]]:
    """Yield the rows of prepared arrays and their targets as tensors, in pieces that fit into memory.

    Args:
        arrays: By input name, with equally many rows.
        targets: By target name, with as many rows.

    Yields:
        Which rows they are, int64 `[b]`, or nothing for all of them in order; the inputs by name; and the targets by name.
    """
    names = {name for key in targets for name in (key, mask_name(key))}
    for rows, tensors in in_pieces({**arrays, **targets}):
        inputs = {name: tensor for name, tensor in tensors.items() if name not in names}
        yield rows, inputs, {name: tensor for name, tensor in tensors.items() if name in names}


def pad(column: Ragged, rows: np.ndarray, *, pin: bool = False) -> tuple[Tensor, Tensor]:
    """Return rows of a ragged column `[b, l, …]`, zeros behind each row's end, and the mask `[b, l]` of what is real; `l` is at least 1.

    Args:
        column: The column.
        rows: Which rows, in any order, int64 `[b]`.
        pin: Whether the memory is page-locked.
    """
    dtype = torch.from_numpy(np.empty(0, dtype=column.values.dtype)).dtype
    out = torch.empty((*mask_of(column, rows).shape, *column.values.shape[1:]), dtype=dtype, pin_memory=pin)
    return out, torch.from_numpy(pad_arrays(column, rows, out=out.numpy())[1])


def with_channels_last(batch: Batch) -> Batch:
    """Return the batch with its images `[b, c, h, w]` laid out with channels last."""

    def lay(tensor: Tensor) -> Tensor:
        images = tensor.ndim == 4 and tensor.is_floating_point()  # stored pixels are `[b, h, w, c]`: channels last already
        return tensor.contiguous(memory_format=torch.channels_last) if images else tensor

    return Batch({name: lay(tensor) for name, tensor in batch.inputs.items()}, batch.targets, batch.weight, batch.row)


def _flatten(batch: Batch) -> tuple[list[object], None]:
    return [batch.inputs, batch.targets, batch.weight, batch.row], None


def _unflatten(parts: object, _: None) -> Batch:
    return Batch(*parts)  # type: ignore[misc]


pytree.register_pytree_node(Batch, _flatten, _unflatten, serialized_type_name="deepseek.Batch")
