"""Where a run stands: all that, with weights and optimizer, a resumed run needs to go on bit for bit.

There is no generator state in it. What is random in a step is a pure function of the seed and the step's number (`seed_of`): a run resumed
anywhere, on any number of ranks, draws what the uninterrupted one would have drawn, and no rank has to send its generators to the one that
writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from deepseek.distributed.devices import generator_state, seed_device, set_generator_state

Json = dict[str, Any]

_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Best:
    """The best validation so far.

    Attributes:
        step: After how many steps it was.
        value: The monitored metric's value.
        metrics: All metrics of that validation.
    """

    step: int
    value: float
    metrics: dict[str, float]


@dataclass
class State:
    """Where a run stands.

    Attributes:
        step: Optimizer steps made.
        epoch: Passes over the training rows completed.
        seconds: Time spent, over all resumes.
        best: The best validation so far.
        history: One entry a validation: step, epoch, seconds, learning rate, training loss, and the validation metrics.
        decisions: What `auto` settings were measured to, and why.
        loss_sum: Numerator and denominator of the training loss since the last validation.
    """

    step: int = 0
    epoch: int = 0
    seconds: float = 0.0
    best: Best | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    decisions: Json = field(default_factory=dict)
    loss_sum: tuple[float, float] = (0.0, 0.0)

    def to_json(self) -> Json:
        """Return the state as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Json) -> State:
        """Return the state that `to_json` wrote."""
        best = value["best"]
        return cls(**{**value, "best": Best(**best) if best else None, "loss_sum": tuple(value["loss_sum"])})


def seed_of(seed: int, *parts: int) -> int:
    """Return a 63-bit seed that depends on every argument (SplitMix64; Steele, Lea and Flood, 2014, https://doi.org/10.1145/2660193.2660195).

    Example:
        >>> seed_of(0, 1) != seed_of(1, 0)
        True
    """
    value = seed & _MASK
    for part in (*parts, 0):
        value = (value + 0x9E3779B97F4A7C15 + part) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        value ^= value >> 31
    return value >> 1


@contextmanager
def only_reproducible(wanted: bool, *, compiled: bool) -> Iterator[None]:
    """Forbid operations that are not bit-reproducible for a block, and leave PyTorch's switch as it was: it is the whole process's.

    Args:
        wanted: Whether to; else nothing is changed.
        compiled: Whether PyTorch's compiler is at work, which is to be told, too.
    """
    before = torch.get_deterministic_debug_mode()
    if wanted and compiled:
        torch.use_deterministic_algorithms(True)
    elif wanted:
        torch.set_deterministic_debug_mode("error")  # the call above would import the compiler: two seconds
    try:
        yield
    finally:
        if wanted and compiled:
            torch.use_deterministic_algorithms(before > 0, warn_only=before == 1)
        elif wanted:
            torch.set_deterministic_debug_mode(before)


@contextmanager
def kept_generators(device: torch.device) -> Iterator[None]:
    """Leave the generators that `seed_generators` seeds as they were before a block: they are the whole process's.

    Args:
        device: The device whose generator is kept, beside the processor's.
    """
    before, of_device = torch.get_rng_state(), None if device.type == "cpu" else generator_state(device)
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if of_device is not None:
            set_generator_state(of_device, device)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators that dropout draws from: the processor's and the device's."""
    torch.default_generator.manual_seed(seed)
    seed_device(seed, device)
