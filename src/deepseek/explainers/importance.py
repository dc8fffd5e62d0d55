"""Permutation importance: how much worse a model gets when one column tells it nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepseek.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from deepseek.data.preparation import Preparation
    from deepseek.data.transforms.base import Array

Shuffle = Callable[[np.ndarray], "Mapping[str, Array]"]
"""Takes an order of the rows, int64 `[n]`, and returns the inputs that change when one column's values are put in that order."""

_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t at 97.5 % for 1 to 9 degrees of freedom."""
_Z95 = 1.959964
"""The same for infinitely many."""


@dataclass(frozen=True)
class Importance:
    """How much a model needs a column.

    Attributes:
        column: The column of the table.
        mean: How much worse the score is without it, in the score's unit, on average over the shuffles.
        low: The lower end of the mean's 95 % interval over the shuffles.
        high: Its upper end.
    """

    column: str
    mean: float
    low: float
    high: float


def permutation_importance(
    score: Callable[[Mapping[str, Array]], float],
    inputs: Mapping[str, Array],
    columns: Mapping[str, Shuffle],
    *,
    higher_is_better: bool = True,
    repeats: int = 5,
    seed: int = 0,
) -> list[Importance]:
    """Return how much worse a score gets when each column's values are shuffled among the rows, the most needed column first.

    A shuffled column keeps its values and types and loses its tie to all else (Breiman, *Machine Learning* 45, 2001). What two columns both
    tell, shuffling one does not show; and shuffled rows may be ones that never occur. The interval is over shuffles of these rows, and
    says nothing of other rows.

    Args:
        score: Takes inputs by name and returns a number.
        inputs: By name, `[n, …]` or rows of unequal length.
        columns: By column, what its shuffling changes; see `column_shuffles`.
        higher_is_better: Whether a larger score is better.
        repeats: How often each column is shuffled, 2 or more.
        seed: The shuffles depend on nothing else; all columns are shuffled alike.

    Returns:
        One a column; the score is computed once, and `repeats` times for each column.

    Raises:
        InputError: There are fewer than 2 repeats.
    """
    if repeats < 2:
        raise InputError(f"repeats is {repeats}", hint="at least 2: of one shuffle there is no interval")
    draw = np.random.default_rng(seed)
    orders = [draw.permutation(len(next(iter(inputs.values())))) for _ in range(repeats)]
    whole = score(inputs)
    sign = 1.0 if higher_is_better else -1.0
    found = []
    for column, shuffle in columns.items():
        drops = np.array([sign * (whole - score({**inputs, **shuffle(order)})) for order in orders])
        half = _t95(repeats - 1) * float(drops.std(ddof=1)) / math.sqrt(repeats)
        mean = float(drops.mean())
        found.append(Importance(column, mean, mean - half, mean + half))
    return sorted(found, key=lambda one: (-one.mean, one.column))


def column_shuffles(preparation: Preparation, batch: pa.RecordBatch, inputs: Mapping[str, Array]) -> dict[str, Shuffle]:
    """Return for each column of a table what its shuffling changes in a model's inputs.

    A transform of one column (an image, a text) need not run again: its rows are put in the new order. One of several columns is applied to
    them with one of them shuffled. Columns that a cleaner made of another belong to that one.

    Args:
        preparation: The fitted preparation.
        batch: Rows as the cleaners leave them, `n`.
        inputs: The same rows as a model meets them, by name; of a ragged input its rows, not padded.
    """
    origin = _origins(preparation)
    places: dict[str, list[tuple[int, list[str]]]] = {}
    for index, transform in enumerate(preparation.transforms):
        for field in transform.fields:
            of_transform = places.setdefault(origin.get(field.name, field.name), [])
            if of_transform and of_transform[-1][0] == index:
                of_transform[-1][1].append(field.name)
            else:
                of_transform.append((index, [field.name]))
    return {column: _Shuffled(preparation, batch, inputs, parts) for column, parts in places.items()}


class _Shuffled:
    def __init__(
        self, preparation: Preparation, batch: pa.RecordBatch, inputs: Mapping[str, Array], parts: Sequence[tuple[int, list[str]]]
    ) -> None:
        self._preparation, self._batch, self._inputs, self._parts = preparation, batch, inputs, parts

    def __call__(self, order: np.ndarray) -> dict[str, Array]:
        import pyarrow as pa

        made: dict[str, Array] = {}
        for index, names in self._parts:
            transform = self._preparation.transforms[index]
            if len(transform.fields) == len(names):
                made |= {spec.name: _in_order(self._inputs[spec.name], order) for spec in transform.inputs}
                continue
            batch = self._batch
            for name in names:
                place = batch.schema.get_field_index(name)
                batch = batch.set_column(place, batch.schema.field(place), batch.column(place).take(pa.array(order)))
            made |= {name: np.asarray(array) for name, array in transform.apply(batch).items()}
        return made


def _origins(preparation: Preparation) -> dict[str, str]:
    """Return for columns that cleaners added the columns that they were made of: their names begin with those."""
    known = set(preparation.schema.names)
    added = [field.name for cleaner in preparation.cleaners for field in cleaner.added]
    return {name: base for name in added if (base := name.rpartition("_")[0]) in known}


def _in_order(array: Array, order: np.ndarray) -> Array:
    return array[order] if isinstance(array, np.ndarray) else array.take(order)


def _t95(freedom: int) -> float:
    """Return Student's t at 97.5 %; beyond the table by its expansion about the normal (Abramowitz and Stegun, 1964, 26.7.5)."""
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    z = _Z95
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
