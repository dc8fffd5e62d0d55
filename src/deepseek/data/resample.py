"""Epochs in which every class comes equally often, by index order: no row is copied, and there is still no state that could be lost.

Position `p` of such an epoch belongs to class `p mod k`, so that each batch holds all classes alike, to within one row (batches of texts,
made of rows of like length, over 64 of them). A class's own rows come in passes over all of them, each pass in an order of its own: a rare
class is met again and again, but never the same row twice before all the others were; of a common one each epoch takes up where the last
one ended, so that no row is forgotten however few are taken.

A position's row is a pure function of (seed, epoch, position), as in `data.order`.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from deepseek.data.order import permutation
from deepseek.errors import InputError

Resample = Literal["over", "under", "balanced"]
"""How long such an epoch is: as many rows of each class as the most frequent has, as the rarest, or as the epoch has rows without."""

_CLASSES = 1 << 62


class Resampled:
    """The rows of epochs in which every class comes equally often.

    Memory is 16 bytes a row: each class's row numbers, and the pass that it is in.

    Args:
        codes: The class of each row, int `[rows]`, from 0; classes without rows are passed over.
        how: `over`, `under` or `balanced`.

    Raises:
        InputError: There is no row, or no such way.

    Example:
        >>> order = Resampled(np.array([0, 0, 0, 1]), "over")
        >>> len(order), sorted(order.rows(seed=0, epoch=0, start=0, count=6).tolist())
        (6, [0, 1, 2, 3, 3, 3])
    """

    def __init__(self, codes: np.ndarray, how: Resample) -> None:
        if how not in get_args(Resample):
            raise InputError(f"rows are to be resampled by {how!r}", hint=f"allowed: {', '.join(get_args(Resample))}")
        if not len(codes):
            raise InputError("there is no row to resample", hint="look at the split and at what the checks set aside")
        ranked = np.argsort(codes, kind="stable")
        sizes = np.bincount(codes)
        present = sizes[sizes > 0]
        self._classes = np.split(ranked, np.cumsum(present)[:-1])
        self._each = int({"over": present.max(), "under": present.min(), "balanced": max(len(codes) // len(present), 1)}[how])
        self._pass: dict[int, tuple[tuple[int, int], np.ndarray]] = {}

    def __len__(self) -> int:
        return self._each * len(self._classes)

    def rows(self, *, seed: int, epoch: int, start: int, count: int) -> np.ndarray:
        """Return the rows at positions of an epoch, int64 `[count]`.

        Args:
            seed: The run's seed.
            epoch: The epoch, counted from 0.
            start: The first position.
            count: How many.

        Raises:
            InputError: The positions do not lie within the epoch.
        """
        if not 0 <= start <= start + count <= len(self):
            raise InputError(
                f"positions {start} to {start + count} of an epoch of {len(self)} rows were asked for",
                hint="they must lie between 0 and the number of rows",
            )
        positions = np.arange(start, start + count)
        out = np.empty(count, dtype=np.int64)
        for number, members in enumerate(self._classes):
            mine = positions % len(self._classes) == number
            out[mine] = self._drawn(number, members, seed, epoch * self._each + positions[mine] // len(self._classes))
        return out

    def _drawn(self, number: int, members: np.ndarray, seed: int, draws: np.ndarray) -> np.ndarray:
        """Return the rows of a class at its draws, counted from the beginning of the training."""
        passes, places = np.divmod(draws, len(members))
        chosen = np.empty(len(draws), dtype=np.int64)
        for one in np.unique(passes).tolist():
            order = self._order(number, len(members), seed, one)
            at = passes == one
            chosen[at] = members[order[places[at]]]
        return chosen

    def _order(self, number: int, size: int, seed: int, one: int) -> np.ndarray:
        known, order = self._pass.get(number, ((-1, -1), np.empty(0, dtype=np.int64)))
        if known != (seed, one):
            order = permutation(size, seed=seed, epoch=one, stream=_CLASSES + number)
            self._pass[number] = ((seed, one), order)
        return order
