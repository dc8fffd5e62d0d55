"""The section `monitor`: how a model is watched in production."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Gt, Lt

from deepseek.recipe.quantities import Duration, Flag, Number
from deepseek.recipe.sections.base import Section
from deepseek.recipe.sections.loop import OnAlarmSection
from deepseek.recipe.values import AUTO, AlarmSpec, Count, Positive, Text


class AlarmSection(Section):
    """When a drop of a metric raises an alarm."""

    metric: Text = AUTO
    """The metric that is tested as labels come: `accuracy`, `auc`, `log_loss`, `mae`, `mse`; `loss`, or `auto` for the task's first."""
    drop: Positive = 0.02
    """The smallest drop that matters: of accuracy and AUC in their unit (0.02 is two points), of a loss as a share of what it was."""
    alpha: Annotated[Number, Gt(0), Lt(1)] = 0.05
    """Largest probability of a false alarm within `horizon` labels."""
    horizon: Count = 10_000
    """Labels that belong to one `alpha`: as many as come in a month, say."""


class WindowSection(Section):
    """How many requests are compared with the reference at a time."""

    rows: Count = 1_000
    """Rows in a window."""
    time: Duration | None = None
    """Time after which a window ends whatever it holds."""


class MonitorSection(Section):
    """How the model is watched in production."""

    alarm: AlarmSection = AlarmSection()
    """When a drop of a metric raises an alarm."""
    drift: Flag = True
    """Whether drift of a column or of the answers raises an alarm."""
    window: WindowSection = WindowSection()
    """How many requests are compared with the reference at a time."""
    consecutive: Count = 2
    """Windows in a row that a column must have drifted for an alarm, and be without drift for its end."""
    silence: Duration = 86_400.0
    """Time in which one alarm is told once."""
    notify: list[AlarmSpec] = []
    """Where alarms go."""
    store: Text = "monitor.db"
    """The log of requests: a file, or the URL of a database."""
    keep_inputs: Literal["nothing", "hashes", "values"] = "hashes"
    """What the log keeps of inputs: nothing, a keyed hash of each row, or their values."""
    retention: Duration | None = None
    """Time after which the log forgets a request; never where not given."""
    on_alarm: OnAlarmSection | None = None
    """What `deepseek loop` does when an alarm is raised."""
