"""The contract of every augmentation: a random change of a training batch, on any device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from deepseek.components import FAMILIES
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec, Transform
from deepseek.errors import InputError
from deepseek.fields import Kind

if TYPE_CHECKING:
    from deepseek.data.prepared import PreparedDataset
    from deepseek.data.targets import TargetSpec


@dataclass(frozen=True, slots=True)
class Known:
    """What is known before the first step, for augmentations that learn from it.

    Attributes:
        target: What is predicted: mixing turns class codes into shares of that many classes.
        rows: The training rows.
        transforms: By input name, the fitted transforms that made them.
    """

    target: TargetSpec | None = None
    rows: PreparedDataset | None = None
    transforms: Mapping[str, Transform] = field(default_factory=dict)


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

    def between(self, rows: int, low: float, high: float, *shape: int) -> torch.Tensor:
        """Return float32 `[rows, *shape]`, even between two bounds."""
        return torch.lerp(torch.tensor(low), torch.tensor(high), self.uniform(rows, *shape))

    def normal(self, rows: int, *shape: int) -> torch.Tensor:
        """Return float32 `[rows, *shape]` from the standard normal distribution."""
        return torch.randn(self.total, *shape, generator=self.generator)[self.start : self.start + rows]

    def beta(self, rows: int, alpha: float) -> torch.Tensor:
        """Return float32 `[rows]` from the distribution Beta(alpha, alpha)."""
        pairs = torch.full((self.total, 2), alpha, dtype=torch.float64)
        drawn: torch.Tensor = torch._sample_dirichlet(pairs, self.generator)  # noqa: SLF001  torch.distributions takes no generator
        return drawn[self.start : self.start + rows, 0].float()

    def once(self) -> float:
        """Return a number in `[0, 1)` for the whole batch, the same on every rank."""
        return float(torch.rand((), generator=self.generator))


class Augmentation(ABC):
    """A random change of a batch of training rows.

    Args:
        inputs: The descriptions of the batch's inputs; the augmentation treats those whose kind it knows.

    Attributes:
        softens: Whether it turns class codes into shares of classes, as mixing does.
    """

    softens: bool = False

    def __init__(self, inputs: Mapping[str, InputSpec], /) -> None:
        self.inputs = dict(inputs)

    @property
    def names(self) -> tuple[str, ...]:
        """What is done, in words, for people: as recipes call it, where it is built in."""
        own = type(self)
        places = {place: name for name, place in FAMILIES["augmentation"][1].items()}
        return (places.get(f"{own.__module__}:{own.__name__}", own.__name__.lower()),)

    @property
    def images(self) -> tuple[str, ...]:
        """The names of the inputs that are images, `[b, h, w, c]`."""
        return self.of_kind(Kind.IMAGE)

    def of_kind(self, *kinds: Kind) -> tuple[str, ...]:
        """Return the names of the inputs of some kinds."""
        return tuple(name for name, spec in self.inputs.items() if spec.kind in kinds)

    def require_images(self) -> None:
        """See that there is an image to change.

        Raises:
            InputError: No input is an image.
        """
        self.require("images", Kind.IMAGE)

    def require(self, what: str, *kinds: Kind) -> None:
        """See that there is something to change.

        Args:
            what: Its name, for people.
            kinds: The kinds of inputs that are such things.

        Raises:
            InputError: No input is of these kinds.
        """
        if not self.of_kind(*kinds):
            raise InputError(
                f"the augmentation {type(self).__name__.lower()} changes {what}, and no input is one", hint="leave it out of data.augment"
            )

    def begin(self, known: Known) -> None:
        """Learn what is to be known before the first step; called once, and not at all in a loop of one's own that has nothing to tell."""

    @staticmethod
    def replace(batch: Batch, inputs: Mapping[str, torch.Tensor]) -> Batch:
        """Return the batch with some inputs in the place of its own."""
        return replace(batch, inputs={**batch.inputs, **inputs})

    @abstractmethod
    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the changed batch; the given one is left as it was."""


def mix_seed(*numbers: int) -> int:
    """Return 63 bits that differ for different numbers (splitmix64's finalizer after each)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) % 2**64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
        state ^= state >> 31
    return state >> 1
