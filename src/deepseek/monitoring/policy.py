"""When an alarm is raised, repeated and cleared: hysteresis and silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

State = Literal["raised", "repeated", "cleared"]


class AlarmPolicy:
    """Turns verdicts of one thing, good or bad, into events that are worth telling.

    It is raised after so many bad verdicts in a row and cleared after so many good ones, so that a value on the border does not ring at
    each window; while it lasts it is repeated once in each time of silence. One that comes again within that time of the last event is
    raised without being told.

    Args:
        consecutive: Verdicts in a row that change the state, 1 or more.
        silence_s: Seconds between two events that tell of the same thing.

    Attributes:
        active: Whether the alarm is raised.
    """

    def __init__(self, *, consecutive: int = 2, silence_s: float = 86_400.0) -> None:
        self.consecutive, self.silence_s = consecutive, silence_s
        self.active = False
        self._streak = 0
        self._told: float | None = None

    def judge(self, bad: bool, at: float, *, at_once: bool = False) -> State | None:
        """Take in a verdict; return what is to be told, if anything.

        Args:
            bad: The verdict.
            at: When it was made, in seconds.
            at_once: Whether one verdict is enough: it comes from a test that has counted already.
        """
        self._streak = 0 if bad == self.active else self._streak + 1
        if self._streak >= (1 if at_once else self.consecutive):
            self.active, self._streak = bad, 0
            if not bad:
                return "cleared"
            return self._tell("raised", at)
        return self._tell("repeated", at) if self.active and bad else None

    def _tell(self, state: State, at: float) -> State | None:
        # far in the future it was told by a clock that was set back since
        if self._told is not None and abs(at - self._told) < self.silence_s:
            return None
        self._told = at
        return state

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain JSON values; the arguments are not in it."""
        return {"active": self.active, "streak": self._streak, "told": self._told}

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Go on from what `to_json` returned."""
        self.active, self._streak, self._told = state["active"], state["streak"], state["told"]
        return self
