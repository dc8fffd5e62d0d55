"""What `deepseek loop` does when an alarm is raised: the key `monitor.on_alarm`."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field

from deepseek.recipe.quantities import Duration, Flag, Integer, Number
from deepseek.recipe.sections.base import Section
from deepseek.recipe.values import AUTO, Auto, Count, NotNegative, Positive


class FreshRowsSection(Section):
    """Which labelled rows of production a new model is made of and judged on."""

    max_rows: Count = 20_000
    """Most rows, the newest."""
    min_rows: Count = 500
    """Fewest; with fewer the loop waits for more."""
    since: Literal["change", "all"] = "change"
    """Whether rows from before the change that the labels show are left out: they are of the old world."""


class ShadowSection(Section):
    """The stage in which the new model is asked beside the old one, and its answers are not given."""

    rows: Annotated[Integer, Ge(0)] = 200
    """Answers without a failure after which the stage ends; 0 leaves it out."""


class CanarySection(Section):
    """The stage in which the new model answers a part of the requests."""

    share: Annotated[Number, Gt(0), Le(1)] = 0.1
    """The part of the requests."""
    rows: Annotated[Integer, Ge(0)] = 500
    """Answers after which the stage ends, if labels have not shown before that it is better or worse; 0 leaves it out."""
    outcomes: Annotated[Integer, Ge(0)] = 0
    """Labels of such answers that are waited for as well."""


class OnlineSection(Section):
    """How a model learns on from where it is."""

    passes: Count = 5
    """Passes over the fresh rows; the weights after the best of them are kept."""
    learning_rate: Positive = 1e-3
    """The learning rate, constant."""


class OnAlarmSection(Section):
    """What `deepseek loop` does when an alarm is raised."""

    action: Literal["retrain", "online", "none"] = "retrain"
    """Train anew with the run's recipe, learn on from its weights, or nothing."""
    alarms: Annotated[list[Literal["metric", "drift"]], Field(min_length=1)] = ["metric"]
    """Which alarms begin a round."""
    recent: FreshRowsSection = FreshRowsSection()
    """Which labelled rows of production count."""
    holdout: Annotated[Number, Gt(0), Lt(1)] = 0.3
    """Share of them, the latest, that the new model is judged on and never sees."""
    keep_old: Annotated[Number, Ge(0), Le(1)] | Auto = AUTO
    """Share of the original training rows that is mixed in; `auto` tries all and none, and keeps what validates better on fresh rows."""
    online: OnlineSection = OnlineSection()
    """How it learns on, for the action `online`."""
    min_gain: NotNegative = 0.0
    """What the new model must be better by, surely: in the unit of `alarm.drop`."""
    alpha: Annotated[Number, Gt(0), Lt(0.5)] = 0.05
    """Largest probability that a new model that is no better passes, and that a good one is rolled back as worse."""
    shadow: ShadowSection = ShadowSection()
    """The stage beside the old model."""
    canary: CanarySection = CanarySection()
    """The stage with a part of the requests."""
    max_wait: Duration = 604_800.0
    """Time after which a stage that has not met its rows ends the round."""
    follow_up: Flag = True
    """Whether a model that was promoted is followed by another once twice as many rows have come as it was made of, while that helps."""
    promote: Literal["auto", "manual"] = "auto"
    """Whether a model that has passed everything is deployed by itself, or waits for `deepseek loop approve RUN`."""
    cooldown: Duration = 86_400.0
    """Time after a round in which none begins."""
    max_rounds_per_week: Count = 5
    """Most rounds in any seven days."""
