"""What the columns of a long table are to a forecast, and how far it looks back and ahead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Role = Literal["observed", "known", "static"]
ROLES: tuple[Role, ...] = ("observed", "known", "static")

HISTORY = "history"
"""The input that holds the targets' own past, in standard deviations from the training mean."""
HISTORY_KNOWN = "history_known"
"""The input that says where the past was known, 1, and where it was carried forward, 0; there only if training rows lacked values."""
NAIVE_ERROR = "naive_error"
"""The target beside the values: each series' mean error of a seasonal naive forecast in training, in standard deviations."""


def input_name(role: Role, name: str) -> str:
    """Return the name under which a network meets what a role's transform of this name gives."""
    return f"{role}_{name}"


def role_of(name: str) -> Role | None:
    """Return the role of an input; nothing for the history and what says where it was known.

    Args:
        name: A name that `input_name` made, or the history's.
    """
    return None if name in (HISTORY, HISTORY_KNOWN) else next((role for role in ROLES if name.startswith(f"{role}_")), None)


@dataclass(frozen=True)
class WindowRules:
    """The columns' roles and the windows' lengths.

    Attributes:
        time: The column of moments.
        target: What is predicted; its past is an input.
        series: What tells series apart.
        observed: What is known of the past only.
        known: What is known of the future as well: prices that are set, holidays, the time itself.
        static: What never changes within a series.
        context: How many steps of the past a window holds, 1 or more.
        horizon: How many steps are predicted, 1 or more.
        season: How many steps a season has, for the seasonal naive forecast; 1 for the last value.
        masked: Whether values were missing in training, so that networks are told where.
    """

    time: str
    target: tuple[str, ...]
    series: tuple[str, ...] = ()
    observed: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    context: int = 100
    horizon: int = 1
    season: int = 1
    masked: bool = False

    def columns(self, role: Role) -> tuple[str, ...]:
        """Return the columns of a role."""
        return {"observed": self.observed, "known": self.known, "static": self.static}[role]

    def length(self, role: Role) -> int:
        """Return how many steps of a role's columns a window holds; 0 where it holds one value."""
        return {"observed": self.context, "known": self.context + self.horizon, "static": 0}[role]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that a window has, in order."""
        return tuple(dict.fromkeys((*self.target, *self.observed, *self.known, *self.static)))

    def to_json(self) -> dict[str, Any]:
        """Return the rules as plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> WindowRules:
        """Return the rules that `to_json` wrote."""
        arguments: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
        return cls(**arguments)
