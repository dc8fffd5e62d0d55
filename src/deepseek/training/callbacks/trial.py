"""Reports a training to the search that it is a trial of, and ends it where the search has seen enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from deepseek.errors import UnknownNameError
from deepseek.recipe.secrets import resolve_secret
from deepseek.registry import Spec
from deepseek.search.reported_trial import ReportedTrial
from deepseek.training.callbacks.base import Callback

if TYPE_CHECKING:
    from deepseek.training.trainer import Trainer

PRUNED = "pruned: trials before it did better after as many validations"
"""Why training ended, where a pruner ended it."""


class TrialReport(Callback):
    """Reports the validation metric of every validation to a study, and stops where its pruner says so.

    All that it needs is written in its arguments, so it works in any process: rank 0 of several reports, and all of them stop at the same
    step, as they do for any reason.

    Args:
        storage: Where the study is kept: a file or the URL of a database; may hold `${ENV:NAME}`.
        study: The study's name.
        number: The trial's number in the study, at least 0.
        pruner: The study's pruner.
        metric: The validation metric that is reported; the monitored one where not given.
    """

    def __init__(
        self, *, storage: str, study: str, number: Annotated[int, Ge(0)], pruner: Spec = "none", metric: str | None = None
    ) -> None:
        self.storage, self.study, self.number, self.pruner, self.metric = storage, study, number, pruner, metric
        self._trial: ReportedTrial | None = None

    def on_fit_start(self, trainer: Trainer) -> None:
        """Find the trial."""
        if self.metric is not None and self.metric not in trainer.metric_names:
            raise UnknownNameError("metric to tune for", self.metric, trainer.metric_names)
        if trainer.is_main:
            self._trial = ReportedTrial(resolve_secret(self.storage), study=self.study, number=self.number, pruner=self.pruner)

    def on_validation(self, trainer: Trainer) -> None:
        """Report, and stop where told to."""
        value = trainer.history[-1][self.metric or trainer.monitor]
        if self._trial is not None and self._trial.report(value, step=len(trainer.history)) and trainer.state.step < trainer.total_steps:
            trainer.stop(PRUNED)

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        """Give the connection back."""
        self._close()

    def on_fit_end(self, trainer: Trainer) -> None:
        """Give the connection back."""
        self._close()

    def _close(self) -> None:
        if self._trial is not None:
            self._trial.close()
            self._trial = None
