"""Which backend answers fastest here: measured, in turns, on the same arrays and with as many threads."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from deepseek.inference.backends.base import Backend

SIZES = (1, 32)
"""The batches that are timed: a request alone, and requests together."""
_ROUNDS, _FEWEST_ROUNDS = 15, 5
_LEAST_S, _ENOUGH_S = 0.01, 60.0


@dataclass(frozen=True)
class Timing:
    """How long a backend takes.

    Attributes:
        name: The backend's name.
        seconds: The median time of a batch, by its rows.
        speed_up: How many times as fast as the first backend, by the batch's rows.
    """

    name: str
    seconds: Mapping[int, float]
    speed_up: Mapping[int, float]

    @property
    def gain(self) -> float:
        """The speed-ups in one number: their geometric mean."""
        return math.prod(self.speed_up.values()) ** (1 / len(self.speed_up))

    @property
    def is_slower(self) -> bool:
        """Whether a batch of some size takes longer than with the first backend."""
        return any(value < 1 for value in self.speed_up.values())


def time_backends(backends: Mapping[str, Backend], inputs: Mapping[int, Mapping[str, np.ndarray]]) -> list[Timing]:
    """Return how long each backend takes for a batch of each size, the first one being what the others are compared with.

    The backends take turns, so that whatever else the machine does meets them alike, and of all turns the median counts. There are fifteen
    turns of each; where a batch takes seconds, as many as a minute allows, but at least five.

    Args:
        backends: By name; they keep to equally many threads themselves.
        inputs: A batch of arrays by its rows.
    """
    found: dict[str, dict[int, float]] = {name: {} for name in backends}
    for rows, arrays in inputs.items():
        repeats = {name: _repeats(backend, arrays) for name, backend in backends.items()}
        times: dict[str, list[float]] = {name: [] for name in backends}
        until = time.perf_counter() + _ENOUGH_S
        for turn in range(_ROUNDS):
            if turn >= _FEWEST_ROUNDS and time.perf_counter() > until:
                break
            for name, backend in backends.items():
                times[name].append(_time(backend, arrays, repeats[name]))
        for name, taken in times.items():
            found[name][rows] = median(taken)
    first = next(iter(found.values()))
    return [Timing(name, seconds, {rows: first[rows] / taken for rows, taken in seconds.items()}) for name, seconds in found.items()]


def fastest(timings: Sequence[Timing]) -> Timing:
    """Return the fastest of the backends that are never slower than the first, which is one of them."""
    return max((timing for timing in timings if not timing.is_slower), key=lambda timing: timing.gain)


def _repeats(backend: Backend, inputs: Mapping[str, np.ndarray]) -> int:
    """Return how often a batch has to be answered for the clock to tell; the first call, which plans, does not count."""
    backend.run(inputs)
    return max(1, min(200, int(_LEAST_S / max(_time(backend, inputs, 1), 1e-6))))


def _time(backend: Backend, inputs: Mapping[str, np.ndarray], repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        backend.run(inputs)
    return (time.perf_counter() - started) / repeats
