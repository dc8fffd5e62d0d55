"""The contract of every augmentation: a random change of a training batch, on any device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind


@dataclass(frozen=True, slots=True)
class Draw:
    """Randomness that depends on the step and on the row's place in the *global* batch, never on the rank that holds the row.

    Attributes:
        generator: Seeded from the run's seed and the step.
        start: Where this rank's (or micro-batch's) rows begin in the global batch.
        total: The rows of the global batch.
    """

    generator: torch.Generator
    start: int
    total: int

    def uniform(self, rows: int, *shape: int) -> torch.Tensor:
        """Return float32 `[rows, *shape]` in `[0, 1)`: drawn for the global batch, sliced to these rows."""
        return torch.rand(self.total, *shape, generator=self.generator)[self.start : self.start + rows]


class Augmentation(ABC):
    """A random change of a batch of training rows.

    Args:
        inputs: The descriptions of the batch's inputs; the augmentation treats those whose kind it knows.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], /) -> None:
        self.inputs = dict(inputs)

    @property
    def images(self) -> tuple[str, ...]:
        """The names of the inputs that are images, `[b, h, w, c]`."""
        return tuple(name for name, spec in self.inputs.items() if spec.kind is Kind.IMAGE)

    def require_images(self) -> None:
        """See that there is an image to change.

        Raises:
            InputError: No input is an image.
        """
        if not self.images:
            raise InputError(
                f"the augmentation {type(self).__name__.lower()} changes images, and no input is one", hint="leave it out of data.augment"
            )

    @staticmethod
    def replace(batch: Batch, inputs: Mapping[str, torch.Tensor]) -> Batch:
        """Return the batch with some inputs in the place of its own."""
        return replace(batch, inputs={**batch.inputs, **inputs})

    @abstractmethod
    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the changed batch; the given one is left as it was."""
