"""One trial: the handle that an objective is given, and the row that stays of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import optuna

TrialState: TypeAlias = Literal["waiting", "running", "complete", "pruned", "failed", "lost"]
"""`lost` is a trial whose worker died: it does not count, and its point was put back into the queue."""

NOTE = "note:"
"""What the names of a trial's notes begin with, among the attributes that Optuna keeps."""

FINISHED: tuple[TrialState, ...] = ("complete", "pruned", "failed")


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """What is known of a trial.

    Attributes:
        number: Its number in the study, from 0.
        state: What became of it.
        parameters: The point that it tried, by dimension.
        value: What the objective returned; of a pruned trial, the last value that it reported; nothing if there is none.
        error: Of a failed or lost trial, what happened.
        reported: Interim values by step.
        notes: What was written down with `Trial.note`.
        started: When it began, in local time; nothing while it waits.
        seconds: How long it took; nothing while it runs.
    """

    number: int
    state: TrialState
    parameters: dict[str, Any]
    value: float | None = None
    error: str | None = None
    reported: dict[int, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    started: datetime | None = None
    seconds: float | None = None

    @property
    def finished(self) -> bool:
        """Whether the trial counts towards the study's number of trials: it is complete, pruned or failed."""
        return self.state in FINISHED


class Trial:
    """A trial under way, as `Study.ask` returns it and `Study.run` passes it to the objective.

    Attributes:
        number: Its number in the study, from 0.
        place: Its number in a study that no worker had left: of a trial that came back into the queue, the place of the lost one.
        parameters: The point to try, by dimension.
        pruned: Whether the study's pruner gave the trial up, as `report` said.
    """

    def __init__(self, trial: optuna.Trial, parameters: Mapping[str, Any], /, *, place: int) -> None:
        self._trial = trial
        self.number, self.place = trial.number, place
        self.parameters = dict(parameters)
        self.pruned = False

    def report(self, value: float, *, step: int) -> bool:
        """Write down an interim value, and learn whether to stop.

        An objective that is told to stop returns at once; whatever it returns then, the trial counts as pruned.

        Args:
            value: The objective's value by now.
            step: How far the trial is, for example its epoch; trials are compared at equal steps.

        Returns:
            Whether the trial should end now.
        """
        self._trial.report(value, step)
        self.pruned = self.pruned or self._trial.should_prune()
        return self.pruned

    def note(self, key: str, value: Any) -> None:
        """Keep something with the trial.

        Args:
            key: Its name.
            value: A plain JSON value, for example the path of a run.
        """
        self._trial.set_user_attr(NOTE + key, value)
