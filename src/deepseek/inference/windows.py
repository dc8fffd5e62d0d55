"""Pictures larger than a network's size, answered window by window, windows overlapping and weighted towards their middle.

Legend of shapes: `*space` height and width, or depth, height and width · `c` channels · `k` classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np

from deepseek.data.volumes import centred

OVERLAP = 0.5
"""What neighbouring windows share of a side."""
SIGMA = 0.125
"""The spread of a window's weights, as a part of its side (Isensee et al., 2021, https://arxiv.org/abs/1904.08128)."""
Run = Callable[[np.ndarray], np.ndarray]
"""Answers rows `[b, *space, c]` with probabilities `[b, k, *space]`."""


def starts(side: int, window: int, overlap: float = OVERLAP) -> list[int]:
    """Return where windows begin along a side, evenly spaced, the last ending where the side does.

    Args:
        side: The side's length, at least the window's.
        window: The window's.
        overlap: The least that neighbours share of it, in [0, 1).

    Example:
        >>> starts(10, 4)
        [0, 2, 4, 6]
    """
    step = max(int(window * (1 - overlap)), 1)
    count = -(-(side - window) // step) + 1
    return [0] if count == 1 else [round(place * (side - window) / (count - 1)) for place in range(count)]


def middle_weights(window: Sequence[int]) -> np.ndarray:
    """Return a Gaussian about a window's middle, float32 `[*window]`: 1 there, and nowhere 0.

    A network sees little around the places at a window's edge, so that a neighbour that has them in its middle knows better.
    """
    weights: np.ndarray = np.ones((), dtype=np.float64)
    for side in window:
        place = (np.arange(side) - (side - 1) / 2) / max(SIGMA * side, 1e-9)
        weights = weights[..., None] * np.exp(-(place**2) / 2)
    weights = weights / weights.max()
    return np.asarray(np.maximum(weights, 1e-4), dtype=np.float32)


def in_windows(run: Run, values: np.ndarray, window: Sequence[int], *, fill: float, rows: int = 4) -> np.ndarray:
    """Return the probabilities of a whole picture, float32 `[k, *space]`.

    A picture that is no larger than the window is one window, filled up about its centre; else windows overlap by half, and at each place
    the mean of their answers counts, weighted by `middle_weights`.

    Args:
        run: The network.
        values: The picture, `[*space, c]`.
        window: The network's size.
        fill: What stands around a picture that is shorter than the window along a side.
        rows: How many windows go through the network at once.
    """
    size = values.shape[:-1]
    enough = tuple(max(side, wanted) for side, wanted in zip(size, window, strict=True))
    padded = centred(values, enough, fill=fill)
    weights = middle_weights(window)
    total: np.ndarray | None = None
    weight = np.zeros(enough, dtype=np.float32)
    for places in _in_turns(product(*(starts(side, wanted) for side, wanted in zip(enough, window, strict=True))), rows):
        parts = [tuple(slice(start, start + wanted) for start, wanted in zip(place, window, strict=True)) for place in places]
        answers = run(np.stack([padded[part] for part in parts]))
        if total is None:
            total = np.zeros((answers.shape[1], *enough), dtype=np.float32)
        for part, answer in zip(parts, answers, strict=True):
            total[(slice(None), *part)] += answer * weights
            weight[part] += weights
    assert total is not None, "a picture has a window"
    before = [(there - side) // 2 for there, side in zip(enough, size, strict=True)]
    inside = tuple(slice(start, start + side) for start, side in zip(before, size, strict=True))
    return np.asarray(total[(slice(None), *inside)] / weight[inside])


def _in_turns(places: Iterator[tuple[int, ...]], rows: int) -> Iterator[list[tuple[int, ...]]]:
    turn: list[tuple[int, ...]] = []
    for place in places:
        turn.append(place)
        if len(turn) == rows:
            yield turn
            turn = []
    if turn:
        yield turn
