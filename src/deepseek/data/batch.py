"""A batch of rows as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


@dataclass(slots=True)
class Batch:
    """Rows as tensors; registered as a pytree, so that `torch.compile`, `torch.export` and `tree_map` see through it.

    Legend of shapes: `b` rows.

    Attributes:
        inputs: By input name, `[b, …]`.
        targets: By target name, `[b, …]`: class indices (int64), 0/1 floats for binary and multi-label, floats for regression.
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
        """Return the batch in pieces, in order, without copying.

        Args:
            rows: The most rows of a piece, but for `least`.
            least: The fewest; a smaller last piece is joined to the one before, and a batch that is smaller itself stays whole.
        """
        size = max(rows, least)
        starts = [start for start in range(0, len(self), size) if start == 0 or len(self) - start >= least]
        return [self._slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(self)], strict=True)]

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


def _flatten(batch: Batch) -> tuple[list[object], None]:
    return [batch.inputs, batch.targets, batch.weight, batch.row], None


def _unflatten(parts: object, _: None) -> Batch:
    return Batch(*parts)  # type: ignore[misc]


pytree.register_pytree_node(Batch, _flatten, _unflatten, serialized_type_name="deepseek.Batch")
