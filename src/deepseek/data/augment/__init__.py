"""Augmentations: random changes of training batches that depend on seed, step and row only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from deepseek.data.augment.base import Augmentation, Draw
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec
from deepseek.registry import Spec, family

__all__ = ["Augment", "Augmentation", "Draw"]


class Augment:
    """Several augmentations, one after the other.

    What happens to a row depends on the seed, the step and the row's place in the global batch: one rank or several, micro-batches or none,
    resumed or not, the changes are the same.

    Args:
        specs: The augmentations, in order.
        inputs: The batch's inputs.
        seed: The run's seed.
    """

    def __init__(self, specs: Sequence[Spec], inputs: Mapping[str, InputSpec], *, seed: int = 0) -> None:
        self.parts: list[Augmentation] = [family("augmentation").build(spec, inputs) for spec in specs]
        self._seed = seed

    def apply(self, batch: Batch, step: int, *, start: int = 0, total: int | None = None) -> Batch:
        """Return the changed batch; the given one is left as it was.

        Args:
            batch: Rows of the global batch.
            step: The step, counted over all epochs.
            start: Where these rows begin in the global batch (`Loader.share`).
            total: The rows of the global batch; those of `batch` where not given.
        """
        for index, part in enumerate(self.parts):
            # a stream for each augmentation, so that adding one leaves what the others draw as it was
            generator = torch.Generator().manual_seed(_mix(self._seed, step, index))
            batch = part.apply(batch, Draw(generator, start, len(batch) if total is None else total))
        return batch


def _mix(*numbers: int) -> int:
    """Return 63 bits that differ for different numbers (splitmix64's finalizer after each)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) % 2**64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
        state ^= state >> 31
    return state >> 1
