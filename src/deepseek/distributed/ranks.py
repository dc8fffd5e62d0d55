"""Which of the processes of a job this one is."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.distributed import Store  # type: ignore[attr-defined]  # re-exported without being named


@dataclass(frozen=True)
class RankContext:
    """This process's place in a job.

    Attributes:
        rank: Its number, from 0.
        ranks: How many processes there are.
        device: Where it computes.
        store: Where the processes of the job write to each other, beside their collectives.
    """

    rank: int = 0
    ranks: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    store: Store | None = field(default=None, compare=False, repr=False)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        """Whether there is no other process."""
        return self.ranks == 1
