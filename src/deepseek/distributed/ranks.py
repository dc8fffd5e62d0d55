"""Which of the processes of a job this one is."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import torch

from deepseek.distributed.devices import pick_device


@dataclass(frozen=True)
class RankContext:
    """This process's place in a job.

    Attributes:
        rank: Its number, from 0.
        ranks: How many processes there are.
        device: Where it computes.
    """

    rank: int = 0
    ranks: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        """Whether there is no other process."""
        return self.ranks == 1

    @classmethod
    def from_environment(cls, device: str = "auto") -> RankContext:
        """Return the place that torchrun's environment variables describe, or the only one where there are none."""
        ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        return cls(rank, ranks, pick_device(device, index=int(os.environ.get("LOCAL_RANK", rank))))
