"""The contract of every way to tell of an alarm."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class AlarmEvent:
    """That something is wrong, or right again.

    Attributes:
        name: What it is about: `metric:accuracy`, `drift:age`.
        state: `raised`, `repeated` where it still holds after the time of silence, `cleared`.
        at: Seconds since 1970, UTC.
        summary: One sentence for people.
        model: The bundle that is watched.
        facts: Figures, as plain JSON values.
    """

    name: str
    state: Literal["raised", "repeated", "cleared"]
    at: float
    summary: str
    model: str
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the event as plain JSON values."""
        return asdict(self)


class Alarm(ABC):
    """Tells somebody of an alarm.

    An event that could not be told is told again at the next occasion: what receives it must bear it twice.
    """

    @abstractmethod
    def send(self, event: AlarmEvent) -> None:
        """Tell of an event, within the alarm's time limit.

        Raises:
            RunError: It could not be told; the watch goes on.
        """
