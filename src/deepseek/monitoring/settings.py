"""What is watched and when an alarm is raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from deepseek.artifacts import Bundle, RunFolder
from deepseek.errors import InputError
from deepseek.monitoring.alarms.base import Alarm
from deepseek.recipe import load_recipe
from deepseek.recipe.secrets import resolve_secrets
from deepseek.recipe.sections import MonitorSection
from deepseek.registry import family

Keep = Literal["nothing", "hashes", "values"]


@dataclass(frozen=True)
class MonitorSettings:
    """How a model is watched.

    Attributes:
        metric: The metric whose drop raises an alarm; `auto` takes the task's first.
        drop: The smallest drop that matters: of accuracy and AUC in their unit, of a loss as a share of what it was.
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

    @classmethod
    def of_run(cls, bundle: Bundle) -> Self:
        """Return what the recipe says of the run that a bundle lies in, under `monitor`; the usual where it says nothing."""
        section = recipe_of(bundle)
        return cls() if section is None else cls.of_section(section)

    @classmethod
    def of_section(cls, section: MonitorSection) -> Self:
        """Return what a recipe's section says."""
        return cls(
            metric=section.alarm.metric,
            drop=section.alarm.drop,
            alpha=section.alarm.alpha,
            horizon=section.alarm.horizon,
            window_rows=section.window.rows,
            window_s=section.window.time,
            drift=section.drift,
            consecutive=section.consecutive,
            silence_s=section.silence,
            keep_inputs=section.keep_inputs,
            retention_s=section.retention,
            alarms=tuple(section.notify),
        )


def recipe_of(bundle: Bundle) -> MonitorSection | None:
    """Return the section `monitor` of the run that a bundle lies in, or nothing."""
    recipe = RunFolder(bundle.path.parent).recipe
    return load_recipe(recipe).monitor if recipe.is_file() else None


def build_alarms(settings: MonitorSettings) -> list[Alarm]:
    """Return where alarms go, the secrets that the specs name put in."""
    return [family("alarm").build(resolve_secrets(dict(spec))) for spec in settings.alarms]
