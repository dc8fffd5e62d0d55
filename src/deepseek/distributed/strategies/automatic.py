"""Whole copies of a model where they fit, else parts of it."""

from __future__ import annotations

import os

from torch import nn

from deepseek.distributed.devices import device_memory
from deepseek.distributed.strategies.base import Placement, Situation, Strategy
from deepseek.distributed.strategies.ddp import DataParallel
from deepseek.distributed.strategies.fsdp import FullySharded
from deepseek.distributed.sync import broadcast_message

MEMORY_SHARE = 0.8
"""What parameters, gradients and optimizer state may take of a device: activations and the batch need room, too."""


class Automatic(Strategy):
    """`ddp` where parameters, gradients and optimizer state fit into a device's free memory with a fifth to spare, else `fsdp`.

    Rank 0 looks, and the others do as it says.
    """

    whole = True

    def place(self, model: nn.Module, situation: Situation, /) -> Placement:
        """Place it as the chosen strategy does."""
        return self.choose(model, situation)[0].place(model, situation)

    def choose(self, model: nn.Module, situation: Situation, /) -> tuple[Strategy, str]:
        """Return the strategy, and why it is this one."""
        needed, free = training_bytes(model, state_factor=situation.state_factor), free_bytes(situation)
        fits, needed, free = broadcast_message([needed <= MEMORY_SHARE * free, needed, free], situation.ranks)
        words = f"parameters, gradients and optimizer state take {needed / 2**20:,.1f} MiB of {free / 2**20:,.1f} MiB free on a device"
        return (DataParallel(), f"ddp: {words}") if fits else (FullySharded(), f"fsdp: {words}, which is too much for one")


def training_bytes(model: nn.Module, *, state_factor: int) -> int:
    """Return what a model takes while it is trained, without activations.

    Args:
        model: The model.
        state_factor: How many numbers the optimizer keeps for each number that it trains: 2 for Adam.
    """
    every = sum(parameter.nbytes for parameter in model.parameters())
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return every + trained * (1 + state_factor)


def free_bytes(situation: Situation) -> int:
    """Return the free memory of this rank's device; a processor's is shared by the ranks on this machine."""
    free = device_memory(situation.ranks.device).free_bytes
    here = int(os.environ.get("LOCAL_WORLD_SIZE", situation.ranks.ranks))
    return free // here if situation.ranks.device.type == "cpu" else free
