"""Means of the target for each category, shrunk towards the overall mean, with out-of-fold values for training rows.

Legend of shapes: `k` target columns · `codes` codes of a column, code 0 (missing, unknown, rare) included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepseek.errors import DataError

FOLDS = 5


def _fold_of(start: int, rows: int) -> np.ndarray:
    """Return each training row's fold: position modulo the number of folds, over a run that a seasonal table is unlikely to share."""
    positions = np.arange(start, start + rows, dtype=np.uint64)
    mixed: np.ndarray = (positions * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    return (mixed % np.uint64(FOLDS)).astype(np.int64)


class TargetMeans:
    """Sums of the target by column, fold and category, and the means made of them.

    Args:
        columns: How many categorical columns there are.
        smoothing: How many rows the overall mean weighs.
    """

    def __init__(self, columns: int, smoothing: float) -> None:
        self._columns = columns
        self._smoothing = smoothing
        self._sums: list[np.ndarray] = []
        self._rows = 0
        self._full: list[np.ndarray] = []
        self._folds: list[np.ndarray] = []

    def add(self, ids: Sequence[np.ndarray], target: np.ndarray) -> None:
        """Add a batch.

        Args:
            ids: Each column's provisional category ids, int64 `[rows]`, -1 where missing.
            target: float64 `[rows, k]`.
        """
        folds = _fold_of(self._rows, len(target))
        self._rows += len(target)
        weights = np.column_stack([np.ones(len(target)), target])
        self._sums = self._sums or [np.zeros((FOLDS, 1, weights.shape[1])) for _ in ids]
        for column, values in enumerate(ids):
            size = max(int(values.max(initial=-1)) + 2, self._sums[column].shape[1])
            sums = np.zeros((FOLDS, size, weights.shape[1]))
            sums[:, : self._sums[column].shape[1]] = self._sums[column]
            np.add.at(sums, (folds, values + 1), weights)
            self._sums[column] = sums

    def finish(self, orders: Sequence[Sequence[int]]) -> None:
        """Make the means.

        Args:
            orders: Each column's provisional ids in the order of the final codes; those not listed join code 0.
        """
        if not self._rows:
            raise DataError("target encoding saw no target", hint="it needs a target and at least one training row")
        self._full, self._folds = [], []
        for sums, order in zip(self._sums, orders, strict=True):
            kept = np.asarray(order, dtype=np.int64) + 1
            coded = np.zeros((FOLDS, len(kept) + 1, sums.shape[2]))
            coded[:, 1:] = sums[:, kept]
            coded[:, 0] = sums.sum(axis=1) - coded[:, 1:].sum(axis=1)
            total = coded.sum(axis=0)
            self._full.append(self._shrink(total[None])[0])
            self._folds.append(self._shrink(total[None] - coded))
        self._sums = []

    def _shrink(self, sums: np.ndarray) -> np.ndarray:
        overall = sums.sum(axis=1, keepdims=True)
        prior = overall[..., 1:] / np.maximum(overall[..., :1], 1)
        weight = sums[..., :1] + self._smoothing
        means = (sums[..., 1:] + self._smoothing * prior) / np.where(weight > 0, weight, 1)
        shrunk: np.ndarray = np.where(weight > 0, means, prior).astype(np.float32)
        return shrunk

    def apply(self, codes: np.ndarray) -> np.ndarray:
        """Return float32 `[rows, columns * k]` for codes `[rows, columns]` of rows that took no part in the means."""
        return np.concatenate([means[codes[:, column]] for column, means in enumerate(self._full)], axis=1)

    def apply_training(self, codes: np.ndarray, start: int) -> np.ndarray:
        """Return the same for training rows, each from the folds that it is not in; `start` training rows came before."""
        folds = _fold_of(start, len(codes))
        return np.concatenate([means[folds, codes[:, column]] for column, means in enumerate(self._folds)], axis=1)

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the columns that `apply` makes."""
        outputs = self._full[0].shape[1]
        return tuple(column if outputs == 1 else f"{column}:{output}" for column in columns for output in range(outputs))

    def quantiles(self, steps: int) -> np.ndarray:
        """Return float32 `[columns * k, steps]`: evenly spaced values over the range of each column's means."""
        rows = [
            np.linspace(table[:, output].min(), table[:, output].max(), steps) for table in self._full for output in range(table.shape[1])
        ]
        return np.array(rows, dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return the means, those of the folds too, so that preparing training rows again gives the same numbers."""
        return {"full": [table.tolist() for table in self._full], "folds": [table.tolist() for table in self._folds]}

    def load_json(self, state: Mapping[str, Any]) -> None:
        """Take up what `to_json` returned."""
        self._full = [np.array(table, dtype=np.float32) for table in state["full"]]
        self._folds = [np.array(table, dtype=np.float32) for table in state["folds"]]
