"""The variables of a window as vectors: numbers through a line each, categories through a table each.

Legend of shapes: `b` windows · `l` steps · `w` width · `v` variables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.data.windows.rules import HISTORY_KNOWN
from deepseek.models.network import module_key


class VariableVectors(nn.Module):
    """Turns every column of several inputs into a vector of one width.

    Args:
        inputs: What they are, by name: `[…, k]`, floats, or whole numbers with a cardinality for each column.
        width: `w`.
        position: How many further variables are given with each call, as floats.

    Attributes:
        names: The variables' names, in order, those of the positions last.

    Shape:
        `[b, …, k]` each to `[b, …, v, w]`.
    """

    no_decay = frozenset({"weight", "bias"})  # vectors of numbers, as those of codes

    def __init__(self, inputs: Mapping[str, InputSpec], width: int, *, position: Sequence[str] = ()) -> None:
        super().__init__()
        self.names: list[str] = []
        self._numbers: list[str] = []
        self._codes: list[str] = []
        count = 0
        tables: dict[str, nn.ModuleList] = {}
        for name, spec in inputs.items():
            if spec.cardinalities:
                tables[module_key(name)] = nn.ModuleList(nn.Embedding(size, width) for size in spec.cardinalities)
                self._codes.append(name)
        for name, spec in inputs.items():
            if not spec.cardinalities:
                size = spec.shape[-1]
                self.names += named(name, spec.columns, size)
                self._numbers.append(name)
                count += size
        self.names += list(position)
        count += len(position)
        for name in self._codes:
            self.names += named(name, inputs[name].columns, len(inputs[name].cardinalities))
        self.weight = nn.Parameter(torch.randn(count, width) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(count, width))
        self.tables = nn.ModuleDict(tables)

    def __len__(self) -> int:
        return len(self.names)

    def forward(self, inputs: Mapping[str, Tensor], position: Tensor | None = None) -> Tensor:
        """Return the vectors; of inputs that are longer than wanted, give slices.

        Args:
            inputs: By name.
            position: The further variables, `[b, …, count]`.
        """
        parts = []
        numbers = [inputs[name].to(self.weight.dtype) for name in self._numbers]
        if position is not None:
            numbers.append(position)
        if numbers:
            x = torch.cat(numbers, dim=-1)
            parts.append(x.unsqueeze(-1) * self.weight + self.bias)
        for name in self._codes:
            codes = inputs[name].long()
            tables = cast("nn.ModuleList", self.tables[module_key(name)])
            looked = [table(codes[..., place]) for place, table in enumerate(tables)]
            parts.append(torch.stack(looked, dim=-2))
        return torch.cat(parts, dim=-2)


def named(name: str, columns: Sequence[str], size: int) -> list[str]:
    """Return the names of an input's columns; those of the mask of the history say what they are."""
    if name == HISTORY_KNOWN:
        return [f"{column}_known" for column in columns]
    return list(columns) if len(columns) == size else [f"{name}_{place}" for place in range(size)]
