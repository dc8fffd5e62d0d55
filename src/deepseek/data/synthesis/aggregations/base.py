"""The contract of every aggregation: one value for each of many ranges of rows, at once."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

Takes = Literal["rows", "number", "category", "boolean", "row_time", "any"]


@dataclass(frozen=True)
class Ranges:
    """Which rows belong together, and as of when each of these is asked.

    Attributes:
        starts: The first row of each, int64 `[ranges]`.
        stops: One behind its last row, int64 `[ranges]`; equal to its start where it has none.
        cutoffs: The cut-off time of each, microseconds since 1970, int64 `[ranges]`.
    """

    starts: np.ndarray
    stops: np.ndarray
    cutoffs: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> np.ndarray:
        """How many rows each has, int64 `[ranges]`."""
        return np.asarray(self.stops - self.starts)


class Aggregation(ABC):
    """How the values of many rows become one.

    Ranges may overlap, be empty, and stand in any order; what one of them gives must hang on its own rows alone, bit for bit, so that rows
    which come later cannot move an answer about the past.
    """

    symbol: ClassVar[str]
    """What it is called in the name of a feature: `MEAN`."""
    words: ClassVar[str]
    """How an explanation begins: `the mean of`."""
    takes: ClassVar[Takes]
    """What values it takes: `rows` for none, as rows are counted; `row_time` for the times of the rows."""
    gives: ClassVar[Literal["number", "category", "boolean", "time", "same"]] = "number"
    """What it gives: `same` where it chooses one of its values."""
    whole: ClassVar[bool] = False
    """Whether the numbers that it gives are whole."""
    skips_missing: ClassVar[bool] = True
    """Whether a row whose value is missing makes no difference, not even where no other row is left."""
    on_itself: ClassVar[bool] = True
    """Whether it makes sense over features that it made."""
    not_on: ClassVar[frozenset[str]] = frozenset()
    """Symbols of other aggregations over whose features it makes no sense."""
    moves: ClassVar[bool] = False
    """Whether its answer changes with the cut-off time although no row comes."""
    spec: dict[str, Any]
    """The spec that it was made from."""

    @abstractmethod
    def over(self, values: np.ndarray, ranges: Ranges) -> np.ndarray:
        """Return one value for each range, float64 `[ranges]`, NaN where there is none.

        Args:
            values: float64 `[rows]`, NaN where missing: numbers, the codes of categories (in the order of their texts), 0 and 1, or
                microseconds since 1970; within a range in the order of time. Must not be changed.
            ranges: Which rows belong together.
        """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.spec == getattr(other, "spec", None)

    def __hash__(self) -> int:
        return hash((type(self), json.dumps(self.spec, sort_keys=True, default=str)))
