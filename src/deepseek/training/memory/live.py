"""How much memory the tensors of a piece of work hold, operation by operation, and how that grows with the rows of a batch.

Peaks cannot be read off the weights: most of what training holds is what the backward pass wants back from the forward pass, and where the
most of it is alive at once depends on the network, on the loss and on the size of the batch. So a step is made with few rows while the
storages that are alive are counted, and made again with twice as many. Each of its moments grows in a straight line with the rows; which
moment is the highest may be another one for a large batch than for a small one, and is looked for at the size that is asked about.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class LiveMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts, while its block runs, the bytes of every storage that was made in it and is still alive.

    What was there before (weights, a batch) is not counted, and neither is what a kernel takes for itself and gives back.

    Args:
        limit_bytes: From how many bytes on an operation fails as it does on a device that is full; none for no end of memory.

    Attributes:
        live_bytes: What is alive now.
        moments: What was alive after each operation.

    Raises:
        torch.OutOfMemoryError: The limit is passed.

    Example:
        >>> with LiveMemory() as memory:
        ...     kept = torch.zeros(256)
        ...     total = float((kept + 1.0).sum())
        >>> memory.peak_bytes, memory.live_bytes
        (2052, 1024)
    """

    def __init__(self, *, limit_bytes: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit_bytes = limit_bytes
        self.live_bytes = 0
        self.moments: list[int] = []
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    @property
    def peak_bytes(self) -> int:
        """The most that was alive at once."""
        return max(self.moments, default=0)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it has made."""
        given = kwargs or {}
        for value in pytree.tree_leaves((args, given)):
            self._meet(value, counted=False)
        out = func(*args, **given)
        for value in pytree.tree_leaves(out):
            self._meet(value, counted=True)
        self.moments.append(self.live_bytes)
        if self.limit_bytes is not None and self.live_bytes > self.limit_bytes:
            raise torch.OutOfMemoryError(f"out of memory: {self.live_bytes:,} bytes are wanted, and there are {self.limit_bytes:,}")
        return out

    def _meet(self, value: object, *, counted: bool) -> None:
        if not isinstance(value, Tensor) or value.layout is not torch.strided:
            return
        storage = value.untyped_storage()
        key = storage._cdata  # noqa: SLF001 - the address of the storage, by which views of it are known
        if key in self._alive:
            return
        size = storage.nbytes() if counted else 0
        self._alive[key] = weakref.ref(storage, partial(self._gone, key, size))
        self.live_bytes += size

    def _gone(self, key: int, size: int, _: object) -> None:
        self._alive.pop(key, None)
        self.live_bytes -= size


class Growth:
    """How much memory work takes with any number of rows, from what it takes with two.

    Args:
        few: How many rows were tried first, and what was alive after each operation.
        more: The same with more rows.

    Example:
        >>> work = Growth((2, [100, 40]), (4, [100, 80]))  # 100 bytes whatever the rows, then 20 a row
        >>> work.peak(4), work.peak(10)
        (100, 200)
    """

    def __init__(self, few: tuple[int, list[int]], more: tuple[int, list[int]]) -> None:
        (rows, first), (rows_more, second) = few, more
        if len(first) != len(second):  # a loop that depends on the rows: the peaks alone can be compared
            first, second = [max(first, default=0)], [max(second, default=0)]
        low, high = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        self._slope = (high - low) / (rows_more - rows)
        self._fixed = low - self._slope * rows

    def peak(self, rows: float) -> int:
        """Return the most bytes that are alive at once with so many rows."""
        return int((self._fixed + self._slope * rows).max(initial=0.0))

    def most_rows(self, bytes_: int, *, most: int) -> int:
        """Return with how many rows at most the peak stays within some bytes; 0 where it does not even with one."""
        return most_rows_within(self.peak, bytes_, most=most)


def most_rows_within(peak: Callable[[int], int], budget_bytes: int, *, most: int) -> int:
    """Return with how many rows at most a peak stays within a budget; 0 where it does not even with one.

    Args:
        peak: The most bytes with so many rows; more rows never take less.
        budget_bytes: What may be taken.
        most: The most rows that are asked about.

    Example:
        >>> most_rows_within(lambda rows: 100 + 20 * rows, 200, most=64)
        5
    """
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if peak(middle) <= budget_bytes else (low, middle - 1)
    return low
