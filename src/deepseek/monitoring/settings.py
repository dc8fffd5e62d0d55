"""What is watched and when an alarm is raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deepseek.errors import InputError

Keep = Literal["nothing", "hashes", "values"]


@dataclass(frozen=True)
class MonitorSettings:
    """How a model is watched.

    Attributes:
        metric: The metric whose drop raises an alarm; `auto` takes the task's first.
        drop: The smallest drop that matters, in the metric's unit.
        alpha: Largest probability of a false alarm of the metric within `horizon` labels.
        horizon: Labels that belong to one `alpha`: those of a month, say.
        window_rows: Rows in one window of inputs and answers.
        window_s: Seconds after which a window ends whatever it holds, or nothing.
        drift: Whether drift of columns raises an alarm.
        consecutive: Windows in a row that a column must have drifted for an alarm, and be without drift for its end.
        silence_s: Seconds in which one alarm is told once.
        keep_inputs: What the log keeps of inputs: nothing, a keyed hash of each row, or the values.
        retention_s: Seconds after which the log forgets a request, or nothing.
        alarms: Specs of where alarms go.
    """

    metric: str = "auto"
    drop: float = 0.02
    alpha: float = 0.05
    horizon: int = 10_000
    window_rows: int = 1_000
    window_s: float | None = None
    drift: bool = True
    consecutive: int = 2
    silence_s: float = 86_400.0
    keep_inputs: Keep = "hashes"
    retention_s: float | None = None
    alarms: tuple[Mapping[str, Any], ...] = field(default=())

    def __post_init__(self) -> None:
        if self.window_rows < 1 or self.consecutive < 1 or self.silence_s < 0:
            raise InputError(
                f"window_rows is {self.window_rows}, consecutive {self.consecutive}, silence_s {self.silence_s}", hint="1, 1 and 0 or more"
            )
