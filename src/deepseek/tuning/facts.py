"""What came of a search, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """A trial that has ended.

    Attributes:
        number: Its number; 0 is the recipe as it is.
        state: `complete`, `pruned` (given up), or `failed`.
        value: The metric on validation rows; of a pruned trial, as it was when it was given up.
        parameters: What it tried, by path.
        seconds: How long it took.
        steps: Optimizer steps made.
        error: What went wrong, where it failed.
    """

    number: int
    state: State
    value: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    steps: int | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What came of a search.

    Attributes:
        name: The recipe's name.
        metric: What trials were compared by, on validation rows.
        direction: Whether small or large values are better.
        trials: Every trial that ended, by number.
        space: What was searched, by path.
        search: How.
        pruner: When trials were given up.
        importance: Each path's share in what makes trials good, where there are enough trials to say.
        metrics: The best trial's metrics by split; those on test rows were computed once, for it alone.
        seconds: Wall-clock seconds, over all resumes.
    """

    name: str
    metric: str
    direction: Literal["minimize", "maximize"]
    trials: Sequence[TrialRow]
    space: Mapping[str, Any]
    search: Mapping[str, Any]
    pruner: Mapping[str, Any]
    importance: Mapping[str, float]
    metrics: Mapping[str, Any]
    seconds: float

    @property
    def best(self) -> TrialRow | None:
        """The complete trial with the best value, the first of equals; nothing where none is complete."""
        return best_of(self.trials, self.direction)

    @property
    def gain(self) -> float | None:
        """How much better the best trial is than the recipe as it was, never negative; nothing where that one has no value."""
        default = next((row.value for row in self.trials if row.number == 0 and row.state == "complete"), None)
        if default is None or not math.isfinite(default) or self.best is None or self.best.value is None:
            return None
        return (default - self.best.value) if self.direction == "minimize" else (self.best.value - default)

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plain JSON values."""
        best = self.best
        return {**asdict(self), "best": best.to_json() if best else None, "gain": self.gain}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Facts:
        """Return the facts that `to_json` wrote."""
        given = {key: part for key, part in value.items() if key not in ("best", "gain")}
        return cls(**{**given, "trials": tuple(TrialRow(**row) for row in given["trials"])})


def best_of(rows: Sequence[TrialRow], direction: str) -> TrialRow | None:
    """Return the complete row with the best value, the first of equals; a value that is no finite number is none."""
    complete = [row for row in rows if row.state == "complete" and row.value is not None and math.isfinite(row.value)]
    sign = 1.0 if direction == "minimize" else -1.0
    return min(complete, key=lambda row: (sign * (row.value or 0.0), row.number), default=None)


def row_text(row: TrialRow, metric: str) -> str:
    """Return a trial as one line for people."""
    value = "-" if row.value is None else f"{row.value:.5g}"
    parameters = "  ".join(f"{path}={_short(part)}" for path, part in row.parameters.items()) or "the recipe as it is"
    error = f"  {row.error.splitlines()[0]}" if row.error else ""
    return f"trial {row.number:>3}  {row.state:<8}  {metric} {value:<9}  {row.seconds:6.1f} s  {parameters}{error}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
