"""Things that are nearly the same, found among many in time that grows with their number and not with its square.

Texts are sets of overlapping pieces; of each set a few minima of random hashes are kept, and two sets agree in a minimum as often as they
overlap (MinHash: Broder, "On the resemblance and containment of documents", 1997, https://doi.org/10.1109/SEQUEN.1997.666900). Minima are
joined to bands, and only what agrees in a whole band is compared at all (locality-sensitive hashing: Indyk and Motwani, STOC 1998,
https://doi.org/10.1145/276698.276876). Pictures are strings of bits that say where they get brighter, cut into bands likewise.

Legend of shapes: `n` things · `s` pieces of all of them together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PIECE = 5
"""Characters of a piece of text."""
BANDS, ROWS = 8, 4
"""A pair that overlaps by 0.8 is compared in 98.5 of 100 cases, one by 0.9 in 99.98, one by 0.3 in 6: 1 - (1 - J^4)^8."""
FULL = 64
"""Of things that agree in a band no more than so many are compared with each other one."""

_SIDE = 8


def pieces(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashed pieces of texts, one after the other, and where each text's begin.

    Args:
        texts: The texts; one that is shorter than a piece is one piece, an empty one has none.

    Returns:
        uint64 `[s]` and int64 `[n + 1]`.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    counts = np.where(lengths >= PIECE, lengths - PIECE + 1, np.minimum(lengths, 1))
    offsets = np.concatenate(([0], np.cumsum(counts)))
    starts = np.repeat(np.concatenate(([0], np.cumsum(lengths)))[:-1] - offsets[:-1], counts) + np.arange(offsets[-1])
    width = np.repeat(np.minimum(lengths, PIECE), counts)
    hashed = width.astype(np.uint64)
    padded = np.concatenate([codes, np.zeros(PIECE, dtype=np.uint64)])
    for place in range(PIECE):
        hashed = _mixed(hashed * np.uint64(0x9E3779B97F4A7C15) + np.where(place < width, padded[starts + place], np.uint64(0)))
    return hashed, offsets


def minima(hashed: np.ndarray, offsets: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Return each set's bands of minima, uint64 `[n, BANDS]`; of an empty set a number that no other has.

    Args:
        hashed: Hashes of the sets' members, uint64 `[s]`.
        offsets: Where each set begins, int64 `[n + 1]`.
        seed: Of the random hashes.
    """
    count = len(offsets) - 1
    keys = _mixed(np.arange(1, BANDS * ROWS + 1, dtype=np.uint64) + np.uint64(seed) * np.uint64(1 << 20))
    bands = np.zeros((count, BANDS), dtype=np.uint64)
    full = np.flatnonzero(np.diff(offsets) > 0)
    if not len(full):
        return _mixed(np.arange(count * BANDS, dtype=np.uint64)).reshape(count, BANDS)
    for number, key in enumerate(keys.tolist()):
        lowest = np.minimum.reduceat(_mixed(hashed ^ np.uint64(key)), offsets[:-1][full])
        band = number // ROWS
        bands[full, band] = _mixed(bands[full, band] * np.uint64(0x9E3779B97F4A7C15) + lowest)
    empty = np.flatnonzero(np.diff(offsets) == 0)
    bands[empty] = _mixed(np.arange(len(empty) * BANDS, dtype=np.uint64)).reshape(-1, BANDS)
    return bands


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the members that two sets share, as a share of those of either (Jaccard), in [0, 1].

    Args:
        first: Its members, sorted and each once.
        second: Likewise.
    """
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / max(len(first) + len(second) - shared, 1)


def picture_bits(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where pictures get brighter to the right and downwards, as bands of 16 bits, and the pictures made small.

    Two pictures whose 128 bits differ in at most 7 places agree in a band for certain. Source: the difference hash, which is folklore
    (Krawetz 2013); here in both directions, so that no single line decides.

    Args:
        images: Pixels, `[n, height, width, channels]`, any scale.

    Returns:
        uint64 `[n, 8]`, and float32 `[n, 81]`: means of 9 by 9 fields, 0 to 255 where pixels are.
    """
    small = _fields(np.asarray(images, dtype=np.float32).mean(axis=3), _SIDE + 1)
    right = small[:, :_SIDE, 1:] > small[:, :_SIDE, :-1]
    down = small[:, 1:, :_SIDE] > small[:, :-1, :_SIDE]
    bits = np.concatenate([right.reshape(len(small), -1), down.reshape(len(small), -1)], axis=1)
    words = np.packbits(bits, axis=1).view(">u2").astype(np.uint64)
    return words, small.reshape(len(small), -1)


class Bands:
    """Things by the bands that they have, to be asked which of them agree with others in one.

    Args:
        bands: uint64 `[n, bands]`.
    """

    def __init__(self, bands: np.ndarray) -> None:
        self._order = [np.argsort(column, kind="stable") for column in bands.T]
        self._sorted = [column[order] for column, order in zip(bands.T, self._order, strict=True)]

    def pairs(self, bands: np.ndarray) -> np.ndarray:
        """Return which of the things agree with which of others in some band, int64 `[pairs, 2]`, each pair once.

        Args:
            bands: The others', uint64 `[m, bands]`.
        """
        found = []
        for column, values, order in zip(bands.T, self._sorted, self._order, strict=True):
            low, high = np.searchsorted(values, column, side="left"), np.searchsorted(values, column, side="right")
            counts = np.minimum(high - low, FULL)
            others = np.repeat(np.arange(len(column)), counts)
            places = np.arange(len(others)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
            found.append(np.column_stack([order[places], others]))
        together = np.concatenate(found) if found else np.empty((0, 2), dtype=np.int64)
        return np.unique(together, axis=0) if len(together) else together.astype(np.int64)


def _fields(planes: np.ndarray, side: int) -> np.ndarray:
    """Return the means of `side` by `side` fields of planes `[n, h, w]`; fields may share lines where pixels do not divide."""
    for axis in (1, 2):
        size = planes.shape[axis]
        starts = np.arange(side) * size // side
        ends = np.maximum(-(-(np.arange(1, side + 1) * size) // side), starts + 1)
        sums = np.concatenate([np.zeros_like(planes.take([0], axis=axis)), np.cumsum(planes, axis=axis, dtype=np.float64)], axis=axis)
        lengths = (ends - starts).reshape([-1 if place == axis else 1 for place in range(3)])
        planes = (sums.take(ends, axis=axis) - sums.take(starts, axis=axis)) / lengths
    return planes.astype(np.float32)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Return 64-bit numbers mixed until no bit tells of another (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))
