"""What is searched: named dimensions, each a range or a list of choices, all of them mapped to and from the unit interval.

Every search works on one picture of a space: a value's *place* in [0, 1], along its own scale. Ranges over orders of magnitude have a
logarithmic scale, so that 1e-5 … 1e-4 gets as much room as 1e-3 … 1e-2 (Bergstra and Bengio, 2012, https://jmlr.org/papers/v13/bergstra12a.html).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from deepseek.errors import InputError, UnknownNameError

_LOG_RATIO = 100
_RANGE_KEYS = ("low", "high", "log", "step")


@dataclass(frozen=True, slots=True)
class Float:
    """A range of real numbers, both ends included.

    Args:
        low: The smallest value.
        high: The largest value, above `low`.
        log: Whether the scale is logarithmic; left out, it is where `low` is above 0 and `high` at least 100 times as large.

    Raises:
        InputError: The ends are not finite, not in order, or not positive on a logarithmic scale.

    Example:
        >>> Float(1e-5, 1e-2).log, Float(0.1, 0.5).log
        (True, False)
    """

    low: float
    high: float
    log: bool | None = None

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high)
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        if self.log is None:
            object.__setattr__(self, "log", self.low > 0 and self.high / self.low >= _LOG_RATIO)
        _check_log(self.low, self.high, bool(self.log))

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', on a logarithmic scale' if self.log else ''}"

    @property
    def size(self) -> int | None:
        """How many values there are: nothing, for they are not countable."""
        return None

    def at(self, place: float) -> float:
        """Return the value at a place in [0, 1]."""
        if self.log:
            value = math.exp(math.log(self.low) + place * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + place * (self.high - self.low)
        return min(max(value, self.low), self.high)

    def place(self, value: float) -> float:
        """Return where a value lies, in [0, 1]."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def levels(self, count: int) -> list[float]:
        """Return `count` values spread evenly over the scale: both ends, or the middle alone."""
        return [self.at(place) for place in _spread(count)]

    def to_json(self) -> dict[str, Any]:
        """Return the mapping that `Space.from_recipe` reads back."""
        return {"low": self.low, "high": self.high, "log": bool(self.log)}


@dataclass(frozen=True, slots=True)
class Integer:
    """A range of whole numbers, both ends included.

    Args:
        low: The smallest value.
        high: The largest value, above `low`; it is lowered to the last one that whole steps reach.
        step: The distance between values, at least 1.
        log: Whether the scale is logarithmic; only with `step` 1.

    Raises:
        InputError: The ends are not in order, not positive on a logarithmic scale, or the step does not fit.
    """

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high)
        _check_log(self.low, self.high, self.log)
        if self.step < 1 or (self.log and self.step != 1):
            raise InputError(f"the step is {self.step}", hint="a step is at least 1, and exactly 1 on a logarithmic scale")
        object.__setattr__(self, "high", self.low + (self.high - self.low) // self.step * self.step)
        if self.high == self.low:
            raise InputError(f"a step of {self.step} leaves the single value {self.low}", hint="make the step smaller than the range")

    def __str__(self) -> str:
        step = f", in steps of {self.step}" if self.step != 1 else ""
        return f"{self.low} to {self.high}{step}{', on a logarithmic scale' if self.log else ''}"

    @property
    def size(self) -> int:
        """How many values there are."""
        return (self.high - self.low) // self.step + 1

    def at(self, place: float) -> int:
        """Return the value at a place in [0, 1]; each has a slice as wide as its part of the scale."""
        low, high = self.low - self.step / 2, self.high + self.step / 2
        raw = math.exp(math.log(low) + place * (math.log(high) - math.log(low))) if self.log else low + place * (high - low)
        steps = math.floor((raw - self.low) / self.step + 0.5)
        return self.low + min(max(steps, 0), self.size - 1) * self.step

    def place(self, value: int) -> float:
        """Return where a value lies, in (0, 1): the place whose value it is."""
        low, high = self.low - self.step / 2, self.high + self.step / 2
        return math.log(value / low) / math.log(high / low) if self.log else (value - low) / (high - low)

    def levels(self, count: int) -> list[int]:
        """Return up to `count` different values spread evenly over the scale: both ends, or the middle alone."""
        if count >= self.size:
            return list(range(self.low, self.high + 1, self.step))
        ends = Float(self.low, self.high, self.log)
        return sorted({self.low + round((ends.at(place) - self.low) / self.step) * self.step for place in _spread(count)})

    def to_json(self) -> dict[str, Any]:
        """Return the mapping that `Space.from_recipe` reads back."""
        return {"low": self.low, "high": self.high, "step": self.step, "log": self.log}


@dataclass(frozen=True, slots=True)
class Choice:
    """A list of values that JSON can write: numbers, words, true and false, null, lists, mappings.

    Args:
        values: At least one value, all different.

    Raises:
        InputError: There is none, one comes twice, or one is no JSON value.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values:
            raise InputError("the list of choices is empty", hint="give at least one value")
        try:
            written = [json.dumps(value, sort_keys=True, allow_nan=False) for value in self.values]
        except (TypeError, ValueError) as error:
            raise InputError(f"the choices {self.values!r} are not plain values: {error}", hint="use what JSON can write") from None
        doubled = sorted({text for text in written if written.count(text) > 1})
        if doubled:
            raise InputError(f"the choice {', '.join(doubled)} comes twice", hint="give each value once")

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def at(self, place: float) -> Any:
        """Return the value at a place in [0, 1]."""
        return self.values[min(int(place * len(self.values)), len(self.values) - 1)]

    def place(self, value: Any) -> float:
        """Return where a value lies, in (0, 1): the middle of its slice."""
        return (self.index(value) + 0.5) / len(self.values)

    def index(self, value: Any) -> int:
        """Return where a value stands in the list; 1, 1.0 and true are three values.

        Raises:
            InputError: It is not among the choices.
        """
        wanted = json.dumps(value, sort_keys=True)
        for index, one in enumerate(self.values):
            if json.dumps(one, sort_keys=True) == wanted:
                return index
        raise InputError(f"{value!r} is not among the choices {list(self.values)}")

    def levels(self, count: int) -> list[Any]:
        """Return all the values: there is no order by which some could stand for others."""
        return list(self.values)

    def to_json(self) -> dict[str, Any]:
        """Return the mapping that `Space.from_recipe` reads back."""
        return {"choices": list(self.values)}


Dimension: TypeAlias = Float | Integer | Choice


class Space(Mapping[str, Dimension]):
    """Named dimensions, in the order in which they were given; immutable.

    Args:
        dimensions: At least one dimension by its name.

    Raises:
        InputError: There is none, or something else stands where a dimension should.

    Example:
        >>> space = Space({"learning_rate": Float(1e-5, 1e-2), "layers": Integer(1, 4)})
        >>> space.at([0.5, 0.0])["layers"]
        1
    """

    __slots__ = ("_dimensions",)

    def __init__(self, dimensions: Mapping[str, Dimension]) -> None:
        if not dimensions:
            raise InputError("there is nothing to search over", hint="name at least one parameter with its range or its choices")
        for name, dimension in dimensions.items():
            if not isinstance(dimension, Float | Integer | Choice):
                raise InputError(f"{name}: {dimension!r} is no dimension", hint="use Float, Integer or Choice, or parse_space")
        self._dimensions = dict(dimensions)

    @classmethod
    def from_recipe(cls, ranges: Mapping[str, Any]) -> Space:
        """Read a space as a recipe writes it, where there are no tuples.

        Args:
            ranges: By name: a list of exactly two numbers is a range `[low, high]`, any other list holds choices; a mapping says more,
                `{low, high, log, step}` or `{choices: […]}`.

        Raises:
            InputError: An entry is neither a range nor choices; the message begins with its name.

        Example:
            >>> Space.from_recipe({"train.learning_rate": [1e-5, 1e-2]})["train.learning_rate"]
            Float(low=1e-05, high=0.01, log=True)
        """
        return cls({name: _named(name, given, _from_recipe) for name, given in ranges.items()})

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Space:
        """Read what `to_json` returned."""
        return cls.from_recipe(written)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Return the space as plain JSON values, whole: every scale and step is written out."""
        return {name: dimension.to_json() for name, dimension in self.items()}

    @property
    def size(self) -> int | None:
        """How many points the space has; nothing where a dimension is not countable."""
        sizes = [dimension.size for dimension in self.values()]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    def at(self, places: Sequence[float]) -> dict[str, Any]:
        """Return the point at places in [0, 1], one for each dimension."""
        return {name: dimension.at(place) for (name, dimension), place in zip(self.items(), places, strict=True)}

    def places(self, point: Mapping[str, Any]) -> list[float]:
        """Return where a point lies, one place in [0, 1] for each dimension."""
        return [dimension.place(point[name]) for name, dimension in self.items()]

    def __getitem__(self, name: str) -> Dimension:
        return self._dimensions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dimensions)

    def __len__(self) -> int:
        return len(self._dimensions)

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_json(), sort_keys=True))

    def __repr__(self) -> str:
        return f"Space({self._dimensions!r})"


def parse_space(ranges: Mapping[str, Any]) -> Space:
    """Read a space as Python writes it.

    Args:
        ranges: By name: a tuple `(low, high)` is a range, of whole numbers where both ends are; a list holds choices; a mapping says more,
            `{"low", "high", "log", "step"}` or `{"choices": […]}`; a `Float`, `Integer` or `Choice` stands for itself.

    Raises:
        InputError: An entry is neither a range nor choices; the message begins with its name.

    Example:
        >>> parse_space({"learning_rate": (1e-5, 1e-2), "batch_size": [32, 64, 128]})["batch_size"]
        Choice(values=(32, 64, 128))
    """
    return ranges if isinstance(ranges, Space) else Space({name: _named(name, given, _from_python) for name, given in ranges.items()})


def _named(name: str, given: Any, parse: Any) -> Dimension:
    try:
        dimension: Dimension = parse(given)
    except InputError as error:
        raise InputError(f"{name}: {error.message}", hint=error.hint) from None
    return dimension


def _from_python(given: Any) -> Dimension:
    if isinstance(given, Float | Integer | Choice):
        return given
    if isinstance(given, tuple):
        if len(given) != 2 or not all(map(_is_number, given)):
            raise InputError(f"{given!r} is no range", hint="a range is a tuple of two numbers (low, high); choices are a list")
        return _range(*given)
    if isinstance(given, list):
        return Choice(tuple(given))
    return _from_mapping(given)


def _from_recipe(given: Any) -> Dimension:
    if isinstance(given, list):
        return _range(*given) if len(given) == 2 and all(map(_is_number, given)) else Choice(tuple(given))
    return _from_mapping(given)


def _from_mapping(given: Any) -> Dimension:
    if not isinstance(given, Mapping):
        raise InputError(f"{given!r} is neither a range nor choices", hint="write [low, high], a list, or a mapping with low and high")
    if "choices" in given:
        _only(given, ("choices",))
        if not isinstance(given["choices"], list | tuple):
            raise InputError(f"choices is {given['choices']!r}", hint="give a list of values")
        return Choice(tuple(given["choices"]))
    _only(given, _RANGE_KEYS)
    ends = [given.get("low"), given.get("high")]
    if not all(map(_is_number, ends)):
        raise InputError(f"low is {ends[0]!r} and high is {ends[1]!r}", hint="a range needs two numbers, low and high")
    return _range(ends[0], ends[1], log=given.get("log"), step=given.get("step"))


def _range(low: Any, high: Any, *, log: Any = None, step: Any = None) -> Dimension:
    if log is not None and not isinstance(log, bool):
        raise InputError(f"log is {log!r}", hint="it is true or false")
    if isinstance(low, int) and isinstance(high, int):
        if step is not None and (isinstance(step, bool) or not isinstance(step, int)):
            raise InputError(f"the step between the whole numbers {low} and {high} is {step!r}", hint="give a whole number")
        return Integer(low, high, step=1 if step is None else step, log=bool(log))
    if step is not None:
        raise InputError(f"the range {low} … {high} of real numbers has a step", hint="leave it out, or list the values as choices")
    return Float(low, high, log)


def _only(given: Mapping[str, Any], allowed: Sequence[str]) -> None:
    for key in given:
        if key not in allowed:
            raise UnknownNameError("key of a range", str(key), allowed)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_ends(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"the range goes from {low} to {high}", hint="its ends are finite, and the first is the smaller one")


def _check_log(low: float, high: float, log: bool) -> None:
    if log and low <= 0:
        raise InputError(f"the range from {low} to {high} cannot have a logarithmic scale", hint="begin above 0, or leave log out")


def _spread(count: int) -> list[float]:
    return [0.5] if count == 1 else [index / (count - 1) for index in range(count)]
