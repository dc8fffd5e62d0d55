"""Derivations: one value becomes another, row by row."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np

_DAY = 86_400_000_000


class Derivation(ABC):
    """What is computed from one value of a row.

    It is asked for many rows at once and must treat each by itself.
    """

    symbol: ClassVar[str]
    """What it is called in the name of a feature: `YEAR`."""
    words: ClassVar[str]
    """How an explanation begins: `the year of`."""
    takes: ClassVar[Literal["number", "category", "boolean", "time"]]
    """What values it takes."""
    gives: ClassVar[Literal["number", "category", "boolean"]] = "number"
    """What it gives; `category` for whole numbers that may be counted as well as added."""
    whole: ClassVar[bool] = False
    """Whether the numbers that it gives are whole."""
    keeps_missing: ClassVar[bool] = True
    """Whether a missing value stays missing."""
    moves: ClassVar[bool] = False
    """Whether its answer changes with the cut-off time."""
    spec: dict[str, Any]
    """The spec that it was made from."""

    @abstractmethod
    def apply(self, values: np.ndarray, cutoffs: np.ndarray) -> np.ndarray:
        """Return the derived values, float64 `[rows]`.

        Args:
            values: float64 `[rows]`, NaN where missing; times are microseconds since 1970 in UTC. Must not be changed.
            cutoffs: The cut-off time of each row, microseconds since 1970, int64 `[rows]`.
        """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.spec == getattr(other, "spec", None)

    def __hash__(self) -> int:
        return hash((type(self), json.dumps(self.spec, sort_keys=True, default=str)))


class _CalendarDerivation(Derivation):
    """A part of a date as a whole number."""

    takes: ClassVar[Literal["number", "category", "boolean", "time"]] = "time"
    gives: ClassVar[Literal["number", "category", "boolean"]] = "category"
    whole = True

    def apply(self, values: np.ndarray, cutoffs: np.ndarray) -> np.ndarray:
        """Return the derived values (see `Derivation.apply`)."""
        known = ~np.isnan(values)
        found = np.full(len(values), np.nan)
        found[known] = self.part(values[known].astype(np.int64).astype("datetime64[us]"))
        return found

    def part(self, times: np.ndarray) -> np.ndarray:
        """Return the part of each time."""
        raise NotImplementedError


class YearDerivation(_CalendarDerivation):
    """The year."""

    symbol = "YEAR"
    words = "the year of"

    def part(self, times: np.ndarray) -> np.ndarray:
        """Return the part of each time, which is in microseconds."""
        return times.astype("datetime64[Y]").astype(np.int64) + 1970


class MonthDerivation(_CalendarDerivation):
    """The month, 1 to 12."""

    symbol = "MONTH"
    words = "the month of"

    def part(self, times: np.ndarray) -> np.ndarray:
        """Return the part of each time, which is in microseconds."""
        return times.astype("datetime64[M]").astype(np.int64) % 12 + 1


class DayDerivation(_CalendarDerivation):
    """The day of the month, 1 to 31."""

    symbol = "DAY"
    words = "the day of the month of"

    def part(self, times: np.ndarray) -> np.ndarray:
        """Return the part of each time, which is in microseconds."""
        days = times.astype("datetime64[D]")
        return np.asarray((days - days.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1)


class WeekdayDerivation(_CalendarDerivation):
    """The day of the week, 0 for Monday to 6 for Sunday."""

    symbol = "WEEKDAY"
    words = "the day of the week of"

    def part(self, times: np.ndarray) -> np.ndarray:
        """Return the part of each time, which is in microseconds."""
        return np.asarray((times.astype("datetime64[D]").astype(np.int64) + 3) % 7)  # the first of January 1970 was a Thursday


class HourDerivation(_CalendarDerivation):
    """The hour, 0 to 23."""

    symbol = "HOUR"
    words = "the hour of"

    def part(self, times: np.ndarray) -> np.ndarray:
        """Return the part of each time, which is in microseconds."""
        return np.asarray(times.astype(np.int64) % _DAY // 3_600_000_000)


class WeekendDerivation(_CalendarDerivation):
    """Whether it is Saturday or Sunday."""

    symbol = "IS_WEEKEND"
    words = "whether it is a weekend on"
    gives = "boolean"
    whole = False

    def part(self, times: np.ndarray) -> np.ndarray:
        """Return the part of each time, which is in microseconds."""
        return WeekdayDerivation.part(WeekdayDerivation(), times) > 4


class TimeSinceDerivation(Derivation):
    """Seconds from a time to the cut-off; negative where it lies behind it, as the end of a contract may."""

    symbol = "TIME_SINCE"
    words = "seconds up to the cut-off from"
    takes: ClassVar[Literal["number", "category", "boolean", "time"]] = "time"
    moves = True

    def apply(self, values: np.ndarray, cutoffs: np.ndarray) -> np.ndarray:
        """Return the derived values (see `Derivation.apply`)."""
        return np.asarray((cutoffs - values) / 1e6)


class AbsoluteDerivation(Derivation):
    """A number without its sign."""

    symbol = "ABSOLUTE"
    words = "the size of"
    takes: ClassVar[Literal["number", "category", "boolean", "time"]] = "number"

    def apply(self, values: np.ndarray, cutoffs: np.ndarray) -> np.ndarray:
        """Return the derived values (see `Derivation.apply`)."""
        return np.asarray(np.abs(values))
