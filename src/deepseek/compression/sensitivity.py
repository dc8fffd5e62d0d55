"""Which layers spoil the answers in INT8: measured, one group at a time, on training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deepseek.compression.calibration import Calibration
from deepseek.compression.quantizer import NOTHING, Quantizer

MOST_GROUPS = 16
"""Networks of more layers are measured by so many groups of consecutive ones: each costs a graph."""
SENSITIVITY_ROWS = 32
"""So few suffice to rank the groups, and a graph is asked them for every group."""
STEPS = (1, 2, 3, 5, 8)
"""So many groups fall back, the worst ones first, until what is left is good enough."""


@dataclass(frozen=True)
class Sensitivity:
    """What a group of layers does to the answers when it alone is in INT8.

    Attributes:
        layers: The layers.
        error: The root mean square of the change over that of the answers.
    """

    layers: tuple[str, ...]
    error: float


@dataclass(frozen=True)
class Trial:
    """A choice of layers that stay in float32.

    Attributes:
        floats: The layers.
        measured: Why they: every group's sensitivity, the worst first; empty where all layers are in INT8.
    """

    floats: frozenset[str] = NOTHING
    measured: tuple[Sensitivity, ...] = ()


def sensitivities(quantizer: Quantizer, calibration: Calibration) -> list[Sensitivity]:
    """Return what each group of layers does to the answers, the worst first.

    Args:
        quantizer: Makes the graphs: of each group alone in INT8, and of none.
        calibration: The rows that they answer; only training rows, so that what is chosen is not chosen on the rows it is judged on.
    """
    everything = frozenset(quantizer.layers)
    rows = calibration.first(SENSITIVITY_ROWS)
    wanted = quantizer.answers(rows, floats=everything)
    found = [
        Sensitivity(group, _error(wanted, quantizer.answers(rows, floats=everything - set(group)))) for group in _groups(quantizer.layers)
    ]
    return sorted(found, key=lambda one: -one.error)


def trials(quantizer: Quantizer, calibration: Calibration, *, fall_back: bool) -> Iterator[Trial]:
    """Yield choices of layers, from all in INT8 to fewer and fewer; sensitivity is measured when the second is asked for.

    Args:
        quantizer: Makes the graphs.
        calibration: The rows to measure sensitivity on.
        fall_back: Whether any layer may stay in float32.
    """
    yield Trial()
    if not fall_back or len(quantizer.layers) < 2:
        return
    measured = tuple(sensitivities(quantizer, calibration))
    for count in STEPS:
        if count >= len(measured):  # nothing would be left in INT8
            return
        yield Trial(frozenset(layer for group in measured[:count] for layer in group.layers), measured)


def _groups(layers: Sequence[str]) -> list[tuple[str, ...]]:
    size = -(-len(layers) // MOST_GROUPS)
    return [tuple(layers[start : start + size]) for start in range(0, len(layers), size)]


def _error(wanted: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> float:
    """Return the largest change of an output in relation to its size."""
    changes = [
        np.sqrt(np.mean(np.square(after.astype(np.float64) - before)))
        / max(float(np.sqrt(np.mean(np.square(before.astype(np.float64))))), 1e-12)
        for before, after in zip(wanted, got, strict=True)
    ]
    return float(np.nan_to_num(max(changes), nan=np.inf))
