"""The order in which an epoch meets its rows: a pure function, so that there is no sampler whose state could be lost.

A small dataset is permuted as a whole. A large one is permuted on two levels: blocks of neighbouring rows are shuffled, and the rows of
every window of blocks are shuffled among themselves. Memory is bounded by the window, reads stay within a window's blocks, and every row
still comes exactly once.

Rows of unequal length can be grouped: the batches of a stretch of that permutation are made of rows of like length, and shuffled.

All randomness is counter-based (Philox, Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405): any slice of any epoch can be had
without what came before it. Raw bits are sorted, not fed to `Generator.permutation`, whose results NumPy may change between versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from deepseek.errors import InputError

BLOCK_ROWS = 4096
WINDOW_BLOCKS = 256
WINDOW_ROWS = BLOCK_ROWS * WINDOW_BLOCKS

_BLOCKS = 1 << 32
"""Stands for the permutation of the blocks where a window's number would stand."""
_GROUPS = 1 << 33
"""Stands, with the first step of a stretch added, for the permutation of its batches."""


def order(rows: int, *, seed: int, epoch: int, start: int = 0, count: int | None = None) -> np.ndarray:
    """Return a slice of an epoch's permutation of `range(rows)`.

    Args:
        rows: How many rows there are.
        seed: The run's seed.
        epoch: The epoch, counted from 0.
        start: The first position wanted.
        count: How many positions; all that follow where not given.

    Returns:
        int64 `[count]`.

    Raises:
        InputError: The slice does not lie within the rows.

    Example:
        >>> sorted(order(5, seed=1, epoch=0).tolist())
        [0, 1, 2, 3, 4]
    """
    stop = rows if count is None else start + count
    if not 0 <= start <= stop <= rows:
        raise InputError(
            f"positions {start} to {stop} of an epoch of {rows} rows were asked for", hint="they must lie between 0 and the number of rows"
        )
    out = np.empty(stop - start, dtype=np.int64)
    window = _window_at(rows, seed, epoch, start) if stop > start else 0
    filled = 0
    while filled < len(out):
        low, high = _bounds(rows, seed, epoch, window)
        taken = min(high, stop) - (start + filled)
        within = start + filled - low
        out[filled : filled + taken] = _window(rows, seed, epoch, window)[within : within + taken]
        filled += taken
        window += 1
    return out


def by_length(rows: np.ndarray, lengths: np.ndarray, sizes: Sequence[int], *, seed: int, epoch: int, first_step: int) -> np.ndarray:
    """Return rows put together in batches of like length, in a random order of the batches.

    Padding is then what little a batch's rows differ (bucketing: Khomenko et al. 2016, https://arxiv.org/abs/1708.05604). The batch of
    another size than the others, which comes last in an epoch, holds rows of any length, as the others do.

    Args:
        rows: The rows of these batches, as `order` gives them.
        lengths: Their lengths.
        sizes: How many rows each batch has, in the order in which the batches come.
        seed: The run's seed.
        epoch: The epoch, counted from 0.
        first_step: The first batch's place in the epoch.

    Returns:
        int64, the batches one after the other; within one, from the shortest row to the longest, ties as they came.
    """
    ranked = rows[np.argsort(lengths, kind="stable")]
    places = permutation(len(sizes), seed=seed, epoch=epoch, stream=_GROUPS + first_step)
    ends = np.cumsum(np.asarray(sizes)[np.argsort(places)])  # of the batches by length: the i-th comes where `places` holds i
    return np.concatenate([ranked[ends[place] - size : ends[place]] for place, size in zip(places, sizes, strict=True)])


def permutation(size: int, *, seed: int, epoch: int, stream: int) -> np.ndarray:
    """Return a permutation of `range(size)` from the high bits of one Philox stream, ties broken by position.

    Args:
        size: How many numbers, 1 or more.
        seed: The run's seed.
        epoch: The epoch, counted from 0.
        stream: Tells permutations for different purposes apart.

    Returns:
        int64 `[size]`.
    """
    key = np.array([seed % 2**64, epoch], dtype=np.uint64)
    counter = np.array([0, 0, 0, stream], dtype=np.uint64)
    bits = np.asarray(np.random.Philox(key=key, counter=counter).random_raw(size))
    mask = np.uint64((1 << max(1, (size - 1).bit_length())) - 1)
    bits = (bits & ~mask) | np.arange(size, dtype=np.uint64)
    bits.sort()
    return (bits & mask).astype(np.int64)


@lru_cache(maxsize=4)
def _blocks(rows: int, seed: int, epoch: int) -> tuple[np.ndarray, int]:
    """Return the shuffled blocks, and the place of the last block, which may be short."""
    blocks = permutation(-(-rows // BLOCK_ROWS), seed=seed, epoch=epoch, stream=_BLOCKS)
    return blocks, int(np.flatnonzero(blocks == len(blocks) - 1)[0])


def _bounds(rows: int, seed: int, epoch: int, window: int) -> tuple[int, int]:
    """Return the first position of a window and the one after its last."""
    if rows <= WINDOW_ROWS:
        return 0, rows
    blocks, short_at = _blocks(rows, seed, epoch)
    lacking = len(blocks) * BLOCK_ROWS - rows

    def position(block: int) -> int:
        return block * BLOCK_ROWS - (lacking if block > short_at else 0)

    return position(window * WINDOW_BLOCKS), position(min((window + 1) * WINDOW_BLOCKS, len(blocks)))


def _window_at(rows: int, seed: int, epoch: int, position: int) -> int:
    window = min(position // WINDOW_ROWS, max(0, -(-rows // WINDOW_ROWS) - 1))
    while position >= _bounds(rows, seed, epoch, window)[1]:
        window += 1
    return window


@lru_cache(maxsize=4)
def _window(rows: int, seed: int, epoch: int, window: int) -> np.ndarray:
    """Return the rows of a window in their order; `order` copies out of it, so that the cache cannot be written to."""
    if rows <= WINDOW_ROWS:
        return permutation(rows, seed=seed, epoch=epoch, stream=0)
    blocks, _ = _blocks(rows, seed, epoch)
    firsts = blocks[window * WINDOW_BLOCKS : (window + 1) * WINDOW_BLOCKS] * BLOCK_ROWS
    members = (firsts[:, None] + np.arange(BLOCK_ROWS)).reshape(-1)
    members = members[members < rows]
    shuffled: np.ndarray = members[permutation(len(members), seed=seed, epoch=epoch, stream=window + 1)]
    return shuffled
