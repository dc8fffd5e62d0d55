"""Pictures that are nearly the same: saved again, made brighter, with noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from deepseek.data.twins.found import Hits, Match, Twins, matched, summed
from deepseek.data.twins.search import BATCH_ROWS, drawn
from deepseek.statistics.near_duplicates import Bands, picture_bits

if TYPE_CHECKING:
    from deepseek.data.prepared import PreparedDataset

PICTURE_DIFFERENCE = 4.0
"""How far the small pictures may be apart, in levels of 255, on average over the fields; their brightness and contrast are evened first."""
_PIXELS = 4_000_000


def picture_twins(train: PreparedDataset, measured: Mapping[str, PreparedDataset], name: str, *, seed: int = 0) -> Twins:
    """Return the rows whose picture is nearly that of a training row: saved again, made brighter, with noise.

    Args:
        train: The prepared training rows.
        measured: By part, the prepared rows that are measured on.
        name: The input of pictures.
        seed: Says which rows are drawn, where there are many.
    """
    held = {part: _HeldPictures(data, drawn(np.arange(len(data)), seed), name) for part, data in measured.items()}
    hits = {part: Hits() for part in held}
    for start in range(0, len(train), BATCH_ROWS):
        places = np.arange(start, min(start + BATCH_ROWS, len(train)))
        seen = _pictures(train, places, name)
        for part, one in held.items():
            hits[part].add(one.match(seen), train.source_numbers(places))
    sizes = {part: (one.looked_at, len(measured[part])) for part, one in held.items()}
    return summed(f"the picture {name}", sizes, hits)


class _HeldPictures:
    """Pictures of measured rows; the same picture is held once, whatever the number of its rows."""

    def __init__(self, data: PreparedDataset, places: np.ndarray, name: str) -> None:
        bits, shown = _pictures(data, places, name)
        told = shown.any(axis=1)
        both = np.concatenate([bits[told].view(np.uint8), shown[told].view(np.uint8)], axis=1)
        _, first, number = np.unique(both, axis=0, return_index=True, return_inverse=True)
        self._rows, self._number = data.source_numbers(places[told]), number.reshape(-1)
        self._shown, self._index = shown[told][first], Bands(bits[told][first])
        self.looked_at = len(places)

    def match(self, seen: tuple[np.ndarray, np.ndarray]) -> Match:
        """Return what is near among pictures that pass by."""
        bits, small = seen
        pairs = self._index.pairs(bits)
        far = np.abs(self._shown[pairs[:, 0]] - small[pairs[:, 1]]).mean(axis=1)
        near = far <= PICTURE_DIFFERENCE
        return matched(self._rows, self._number, pairs=pairs[near], alike=1.0 - far[near] / 255.0)


def _pictures(data: PreparedDataset, places: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return bands and small pictures, brightness and contrast evened; a picture of one colour becomes nothing at all."""
    bits, small = [], []
    step = max(min(_PIXELS // int(np.prod(data.inputs[name].shape if name in data.inputs else (1,))), BATCH_ROWS), 1)
    for start in range(0, len(places), step):
        pixels = data.take(places[start : start + step], ragged=False).inputs[name].numpy()
        one, shown = picture_bits(pixels)
        bits.append(one)
        small.append(shown)
    shown = np.concatenate(small) if small else np.empty((0, 81), dtype=np.float32)
    shown = shown - shown.mean(axis=1, keepdims=True)
    spread = shown.std(axis=1, keepdims=True)
    even = np.where(spread > 1.0, shown / np.maximum(spread, 1.0) * 64.0, 0.0)
    return np.concatenate(bits) if bits else np.empty((0, 8), dtype=np.uint64), even.astype(np.float32)
