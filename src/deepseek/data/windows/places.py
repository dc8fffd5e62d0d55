"""Which windows there are: places in the steps, split by time so that no window learns from what it is measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.splits import LEFT_OUT, NAMES, TEST, TRAIN, VALIDATION, shares
from deepseek.data.timestamps import read_timestamps
from deepseek.data.windows.grid import Grid
from deepseek.data.windows.steps import Steps
from deepseek.errors import DataError, InputError


@dataclass(frozen=True)
class TimeSplit:
    """Which period is trained on, which chooses, and which is measured on; each period ends where the next begins.

    Attributes:
        train: The share of the moments that train, where no date says so.
        validation: The share that validates.
        test: The share that tests.
        train_from: The first moment that is used at all, as text.
        validation_from: The first moment of validation.
        test_from: The first moment of the test.
        until: The first moment behind the test that is not used any more.
    """

    train: float = 0.7
    validation: float = 0.15
    test: float = 0.15
    train_from: str | None = None
    validation_from: str | None = None
    test_from: str | None = None
    until: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the rules as plain JSON values."""
        return asdict(self)

    def of_steps(self, steps: Steps) -> np.ndarray:
        """Return each step's part, int8 `[steps]`: 0 train, 1 validation, 2 test, -1 left out.

        Parts follow each other in time, the same moments in every series.

        Raises:
            InputError: A date cannot be read, or they are not in order.
            DataError: A part that is wanted has no step.
        """
        first, last = int(steps.numbers.min()), int(steps.numbers.max()) + 1
        begin = _place(self.train_from, steps.grid, first)
        end = _place(self.until, steps.grid, last)
        counted = np.unique(steps.numbers[(steps.numbers >= begin) & (steps.numbers < end)])
        if not len(counted):
            raise InputError(f"no step lies between {self.train_from} and {self.until}", hint="look at data.split")
        train, validation, _ = shares(self.train, self.validation, self.test)
        later = [round(share * len(counted)) for share in (train, train + validation)]
        cuts = [int(counted[place]) if place < len(counted) else end for place in later]
        validating = _place(
            self.validation_from, steps.grid, _place(self.test_from, steps.grid, cuts[0]) if self.validation == 0 else cuts[0]
        )
        testing = _place(self.test_from, steps.grid, end if self.test == 0 else cuts[1])
        if not begin < validating <= testing <= end:
            moments = [
                str(steps.grid.as_arrow(steps.grid.moments(np.array([one])))[0].as_py()) for one in (begin, validating, testing, end)
            ]
            raise InputError(f"the periods begin and end at {', '.join(moments)}, which are not in order", hint="look at data.split")
        part = np.full(len(steps), LEFT_OUT, dtype=np.int8)
        for number, (low, high) in {TRAIN: (begin, validating), VALIDATION: (validating, testing), TEST: (testing, end)}.items():
            part[(steps.numbers >= low) & (steps.numbers < high)] = number
        return part


def _place(text: str | None, grid: Grid, default: int) -> int:
    """Return the first step of the grid at or behind a moment that is given as text."""
    if text is None:
        return default
    if grid.unit == "numbers":
        try:
            moment = int(text)
        except ValueError:
            raise InputError(f"data.split names the moment {text!r}", hint="times are whole numbers here") from None
    else:
        read = read_timestamps(pa.array([text]))
        if read.null_count:
            raise InputError(f"data.split names the moment {text!r}", hint="write times as 2025-04-03 or 2025-04-03 14:30")
        moment = int(np.asarray(read.cast(pa.int64()))[0])
    if grid.unit == "months":
        months = np.array([moment, grid.anchor]).astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
        near = int((months[0] - months[1]) // grid.step)
    else:
        near = (moment - grid.anchor) // grid.step
    candidates = near + np.arange(-1, 3)
    return int(candidates[np.flatnonzero(grid.moments(candidates) >= moment)[0]])


@dataclass(frozen=True)
class Places:
    """The windows of one part.

    Attributes:
        starts: int64 `[windows]`: the first step of each window's context, ascending.
        short: How many series have no window in the part.
        empty: How many windows were left out as every target in them is missing.
    """

    starts: np.ndarray
    short: int = 0
    empty: int = 0


def window_places(steps: Steps, parts: np.ndarray, known: np.ndarray, *, context: int, horizon: int) -> dict[str, Places]:
    """Return the windows of each part: all target steps lie in it, while the context may reach back into what came before.

    Args:
        steps: The steps.
        parts: Each step's part, int8 `[steps]`.
        known: Where a target value is known, boolean `[steps]`.
        context: How many steps a window looks back on, 1 or more.
        horizon: How many steps it is to predict, 1 or more.

    Raises:
        DataError: No window fits into the training period.
    """
    found = {}
    total = len(steps)
    first = np.arange(max(total - context - horizon + 1, 0))
    series = steps.series
    whole = series[first] == series[first + context + horizon - 1]
    used = parts[first] != LEFT_OUT  # steps before `train_from` are not looked at
    any_known = _within(known, first + context, horizon) > 0
    for number, name in enumerate(NAMES):
        inside = whole & used & (_within(parts == number, first + context, horizon) == horizon)
        chosen = inside & any_known
        with_windows = len(np.unique(series[first[chosen]]))
        wanting = len(np.unique(series[parts == number])) - with_windows
        found[name] = Places(first[chosen], wanting, int((inside & ~any_known).sum()))
    if not len(found["train"].starts):
        longest = int(np.diff(steps.starts).max())
        raise DataError(
            f"no window of {context} + {horizon} steps fits into the training period; the longest series has {longest:,} steps in all",
            hint="take a shorter task.context_length or task.horizon, or a longer training period",
        )
    return found


def _within(flags: np.ndarray, first: np.ndarray, length: int) -> np.ndarray:
    """Return how many of so many steps from each place on are true."""
    sums = np.concatenate(([0], np.cumsum(flags)))
    return np.asarray(sums[first + length] - sums[first])


def places_summary(found: Mapping[str, Places]) -> list[str]:
    """Say which series and windows are not used, in words."""
    said = []
    for name, one in found.items():
        if one.short and len(one.starts):
            said.append(f"{one.short:,} series are too short for a window among the {name} steps, and are not used there")
        if one.empty:
            said.append(f"{one.empty:,} {name} windows are left out: none of their targets is known")
    return said
