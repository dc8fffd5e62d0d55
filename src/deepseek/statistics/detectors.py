"""Detectors of change in a stream, value by value and in bounded memory: ADWIN, DDM, Page–Hinkley.

Each is fed one number at a time by `update`, which says whether the stream has changed there. They are made for the errors of a model that
learns online, where an alarm costs little. None of them states a rate of false alarms in practice; where an alarm wakes somebody, the tests
in `statistics.sequential` do.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from deepseek.errors import InputError

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
Share = Annotated[float, Gt(0), Lt(1)]


class Detector(ABC):
    """What watches a stream for change, in bounded memory; a [plugin](../guides/plugins.md) of the family `detector` derives from it."""

    @abstractmethod
    def update(self, value: float) -> bool:
        """Take in the next value, such as whether an answer was wrong; return whether the stream is found to have changed."""

    def state(self) -> dict[str, Any]:
        """Return everything that it holds as plain JSON values: attributes that are numbers, texts, or lists, tuples and deques of these.

        Raises:
            InputError: An attribute is anything else; such a detector has a `state` and a `load_state` of its own.
        """
        return {name: _as_json(name, value) for name, value in vars(self).items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        for name, value in state.items():
            setattr(self, name, _from_json(value))


def _as_json(name: str, value: object) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, deque):
        return {"deque": [_as_json(name, one) for one in value], "most": value.maxlen}
    if isinstance(value, tuple):
        return {"tuple": [_as_json(name, one) for one in value]}
    if isinstance(value, list):
        return [_as_json(name, one) for one in value]
    raise InputError(f"the attribute {name!r} of a detector is a {type(value).__name__}", hint="give the detector a state and a load_state")


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(one) for one in value]
    if isinstance(value, dict) and "deque" in value:
        return deque([_from_json(one) for one in value["deque"]], maxlen=value["most"])
    return tuple(_from_json(one) for one in value["tuple"]) if isinstance(value, dict) else value


class Adwin(Detector):
    """The window that shrinks by itself: it grows while its two ends agree and drops its old end where they do not.

    Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing" (SDM 2007): Figure 1 with the bound of section 4.1
    (variance included), over the exponential histogram of section 4.2: `most` buckets of each power of two, so that memory and the work of
    one check are logarithmic in the window. Whether to cut is asked each `clock` values, oldest cut first.

    Args:
        delta: Confidence of the bound, in (0, 1): smaller raises fewer false alarms.
        clock: Values between two checks, 1 or more.
        most: Buckets of each size, 1 or more; more cuts are tried, and memory grows.
        least: The fewest values on either side of a cut.
        grace: Values before the first check.

    Attributes:
        width: How many values the window holds.
        total: Their sum.

    Example:
        >>> adwin = Adwin()
        >>> any([adwin.update(value) for value in [0.0] * 500 + [1.0] * 500])
        True
    """

    def __init__(self, *, delta: Share = 0.002, clock: Count = 32, most: Count = 5, least: Count = 5, grace: Count = 10) -> None:
        if not 0 < delta < 1:
            raise InputError(f"delta is {delta}", hint="it lies between 0 and 1")
        self.delta, self.clock, self.most, self.least, self.grace = delta, clock, most, least, grace
        # each level holds buckets of 2^level values as (sum, squared deviations), the oldest last
        self._levels: list[deque[tuple[float, float]]] = [deque()]
        self.width = 0
        self.total = 0.0
        self._squares = 0.0
        self._seen = 0

    @property
    def mean(self) -> float:
        """The mean of the window, 0 where it is empty."""
        return self.total / self.width if self.width else 0.0

    @property
    def variance(self) -> float:
        """The variance of the window."""
        return max(self._squares, 0.0) / self.width if self.width else 0.0

    @property
    def buckets(self) -> int:
        """How many buckets are held: at most `most + 1` for each power of two up to the width."""
        return sum(map(len, self._levels))

    def update(self, value: float) -> bool:
        """Take in the next value; return whether old values were dropped because the mean has changed."""
        self._seen += 1
        if self.width:
            self._squares += (value - self.mean) ** 2 * self.width / (self.width + 1)
        self.width += 1
        self.total += value
        self._levels[0].appendleft((value, 0.0))
        self._compress()
        if self._seen % self.clock or self.width <= self.grace:
            return False
        changed = False
        while self._differs():
            self._drop()
            changed = True
        return changed

    def _compress(self) -> None:
        for level, buckets in enumerate(self._levels):
            if len(buckets) <= self.most:
                return
            size = 1 << level
            (first, one), (second, two) = buckets.pop(), buckets.pop()
            if level + 1 == len(self._levels):
                self._levels.append(deque())
            between = (first - second) ** 2 / size / 2  # size²/(2 size) times the squared distance of the means
            self._levels[level + 1].appendleft((first + second, one + two + between))

    def _differs(self) -> bool:
        """Whether some cut leaves two parts whose means differ by more than the bound."""
        if self.width < 2 * self.least:
            return False
        old, old_sum = 0, 0.0
        spread = self.variance
        log = math.log(2 * math.log(self.width) / self.delta)
        for level in range(len(self._levels) - 1, -1, -1):
            size = 1 << level
            for total, _ in reversed(self._levels[level]):
                old, old_sum = old + size, old_sum + total
                new = self.width - old
                if new < self.least:
                    return False
                if old < self.least:
                    continue
                harmonic = 1 / (old - self.least + 1) + 1 / (new - self.least + 1)
                bound = math.sqrt(2 * harmonic * spread * log) + 2 / 3 * harmonic * log
                if abs(old_sum / old - (self.total - old_sum) / new) > bound:
                    return True
        return False

    def _drop(self) -> None:
        """Take the oldest bucket out of the window."""
        level = len(self._levels) - 1
        size = 1 << level
        total, squares = self._levels[level].pop()
        self.width -= size
        self.total -= total
        if self.width:
            self._squares -= squares + (total / size - self.mean) ** 2 * size * self.width / (size + self.width)
        while len(self._levels) > 1 and not self._levels[-1]:
            self._levels.pop()


class Ddm(Detector):
    """Alarm where the error rate has risen well above the lowest it had; for errors of 0 and 1.

    Gama et al., "Learning with drift detection" (SBIA 2004): the rate `p` and its standard error `s = sqrt(p (1 - p) / n)` are kept
    since the last alarm; from `p + s > p_min + warning · s_min` on there is a warning, from `p_min + alarm · s_min` on an alarm. After it
    the detector begins anew.

    Args:
        warning: Standard errors from which there is a warning.
        alarm: Standard errors from which there is an alarm.
        least: Values before the first verdict, 1 or more.

    Attributes:
        warns: Whether the last value lay in the zone of warning.
    """

    def __init__(self, *, warning: Positive = 2.0, alarm: Positive = 3.0, least: Count = 30) -> None:
        self.warning, self.alarm, self.least = warning, alarm, least
        self.warns = False
        self._rows, self._rate = 0, 0.0
        self._low_rate = self._low_error = math.inf

    def update(self, value: float) -> bool:
        """Take in whether the model was wrong; return whether the error rate has risen."""
        self._rows += 1
        self._rate += (value - self._rate) / self._rows
        self.warns = False
        if self._rows < self.least:
            return False
        error = math.sqrt(max(self._rate * (1 - self._rate), 0.0) / self._rows)
        if self._rate + error <= self._low_rate + self._low_error:
            self._low_rate, self._low_error = self._rate, error
        reached = self._rate + error
        if reached > self._low_rate + self.alarm * self._low_error:
            self._rows, self._rate = 0, 0.0
            self._low_rate = self._low_error = math.inf
            return True
        self.warns = reached > self._low_rate + self.warning * self._low_error
        return False


class PageHinkley(Detector):
    """Alarm where the sum of what lies above (or below) the running mean has moved far from its extreme.

    Page, "Continuous inspection schemes" (Biometrika 1954), in the form of Hinkley (Biometrika 1971) for an unknown mean.

    Args:
        delta: Change of the mean that is put up with.
        threshold: How far the sum may move.
        forget: Factor by which the sum shrinks each step, in (0, 1]; 1 is the test as published.
        least: Values before the first verdict.
        way: Which changes count.
    """

    def __init__(
        self,
        *,
        delta: Annotated[float, Ge(0)] = 0.005,
        threshold: Positive = 50.0,
        forget: Annotated[float, Gt(0), Le(1)] = 0.9999,
        least: Count = 30,
        way: Literal["up", "down", "both"] = "both",
    ) -> None:
        if way not in {"up", "down", "both"}:
            raise InputError(f"way is {way!r}", hint="allowed: up, down, both")
        self.delta, self.threshold, self.forget, self.least, self.way = delta, threshold, forget, least, way
        self._rows, self._mean = 0, 0.0
        self._up = self._down = 0.0
        self._lowest, self._highest = math.inf, -math.inf

    def update(self, value: float) -> bool:
        """Take in the next value; return whether the mean has changed. After an alarm the detector begins anew."""
        self._rows += 1
        self._mean += (value - self._mean) / self._rows
        self._up = self.forget * self._up + value - self._mean - self.delta
        self._down = self.forget * self._down + value - self._mean + self.delta
        self._lowest, self._highest = min(self._lowest, self._up), max(self._highest, self._down)
        rises = self.way != "down" and self._up - self._lowest > self.threshold
        falls = self.way != "up" and self._highest - self._down > self.threshold
        if self._rows < self.least or not (rises or falls):
            return False
        self._rows, self._mean = 0, 0.0
        self._up = self._down = 0.0
        self._lowest, self._highest = math.inf, -math.inf
        return True
