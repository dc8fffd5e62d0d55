"""What is worth a word while a network trains: said to people at once, and kept for the callbacks that write things down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deepseek import progress


@dataclass(frozen=True)
class Remark:
    """One thing that was noticed.

    Attributes:
        event: What it is, in one word: `loss_spike`, `stall`.
        step: After how many steps.
        values: The facts, as plain JSON values.
    """

    event: str
    step: int
    values: dict[str, Any] = field(default_factory=dict)


class Remarks:
    """The remarks of a run, in order."""

    def __init__(self) -> None:
        self._made: list[Remark] = []

    def say(self, event: str, text: str, *, step: int, **values: Any) -> None:
        """Write a line that nobody should miss, and keep it.

        Args:
            event: What it is, in one word.
            text: The line.
            step: After how many steps.
            values: The facts.
        """
        progress.warn(text)
        self._made.append(Remark(event, step, {"message": text, **values}))

    def since(self, count: int) -> list[Remark]:
        """Return what was said after so many remarks."""
        return self._made[count:]
