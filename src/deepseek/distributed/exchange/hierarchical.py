"""Gradients summed within groups of ranks, between the groups, and spread within them again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated

import torch
import torch.distributed as dist
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from deepseek.distributed.exchange.base import Bucket, Exchange, Waitable
from deepseek.distributed.ranks import RankContext
from deepseek.errors import InputError


class HierarchicalExchange(Exchange):
    """Sums gradients within each group of ranks, a part a rank, then each part between groups, and spreads the sums within the groups.

    A ring over `n` ranks makes `2 (n - 1)` steps, each as slow as its slowest link. With `g` groups of `m` ranks it is `2 (m - 1)` steps
    over the fast links within a group and `2 (g - 1)` over the slow ones between them, each with a part of the values
    (Cho et al., 2019, BlueConnect, https://doi.org/10.1147/JRD.2019.2947013). Exact to rounding.

    Args:
        group: How many neighbouring ranks are a group: those that one machine holds. Where not given it is what torchrun says in
            `LOCAL_WORLD_SIZE`; ranks that nobody else has started need it.
    """

    def __init__(self, context: RankContext, /, *, group: Annotated[int, Ge(2)] | None = None) -> None:
        super().__init__(context)
        self.group = self._size(group)
        rank, ranks = context.rank, context.ranks
        # every rank has to make every group, its own or not, in the same order
        within = [dist.new_group(list(range(first, first + self.group))) for first in range(0, ranks, self.group)]
        between = [dist.new_group(list(range(place, ranks, self.group))) for place in range(self.group)]
        self._within, self._between = within[rank // self.group], between[rank % self.group]

    def exchange(self, bucket: Bucket, weight: Tensor) -> Iterator[Waitable]:
        """Sum the bucket."""
        count = bucket.flat.numel()
        parts = functional.pad(bucket.flat, (0, -count % self.group)).view(self.group, -1)
        own = torch.empty_like(parts[0])
        yield self.scatter_sum(own, parts, self._within)
        yield self.sum_in_place(own, self._between)
        summed = torch.empty_like(parts)
        yield self.gather(summed, own, self._within)
        bucket.flat.copy_(summed.view(-1)[:count])

    def _size(self, given: int | None) -> int:
        ranks = self.context.ranks
        size = given or int(os.environ.get("LOCAL_WORLD_SIZE", ranks))
        if not 1 < size < ranks or ranks % size:
            whence = "is" if given else "is missing, and by LOCAL_WORLD_SIZE"
            allowed = [str(each) for each in range(2, ranks) if not ranks % each]
            hint = f"allowed for {ranks} ranks: {', '.join(allowed)}" if allowed else f"{ranks} ranks cannot be grouped; take all_reduce"
            raise InputError(f"train.communication.group {whence} {size}; there are {ranks} ranks", hint=hint)
        return size
