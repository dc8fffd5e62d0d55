"""A running trial, taken up by another process: the rank of a training that reports for the trial it works on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deepseek.errors import InputError
from deepseek.registry import Spec, family
from deepseek.search.engine import load_optuna, open_storage, quiet

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


class ReportedTrial:
    """A trial that another process has asked for and will end; here its interim values are written down.

    Args:
        storage: Where the study is kept.
        study: The study's name.
        number: The trial's number in it.
        pruner: The study's `pruner` component; storages do not keep it.

    Raises:
        InputError: There is no such study or trial.
        MissingExtraError: Optuna is not installed.
    """

    def __init__(self, storage: str | Path, *, study: str, number: int, pruner: Spec) -> None:
        optuna = load_optuna("a trial")
        self._storage = open_storage(storage, on_stale=_leave)
        with quiet():
            try:
                self._study = optuna.load_study(study_name=study, storage=self._storage, pruner=family("pruner").build(pruner).pruner())
                self._id = self._storage.get_trial_id_from_study_id_trial_number(self._storage.get_study_id_from_name(study), number)
            except KeyError:
                raise InputError(
                    f"the storage has no trial {number} of a study {study!r}", hint="name the study that asks for it"
                ) from None

    def report(self, value: float, *, step: int) -> bool:
        """Write down an interim value, and learn whether the trial should end now; as `Trial.report`."""
        with quiet():
            self._storage.set_trial_intermediate_value(self._id, step, value)
            return bool(self._study.pruner.prune(self._study, self._storage.get_trial(self._id)))

    def close(self) -> None:
        """Let go of the storage."""
        self._storage.remove_session()
        engine = getattr(self._storage, "engine", None)
        if engine is not None:
            engine.dispose()


def _leave(study: optuna.Study, trial: FrozenTrial) -> None:
    """Do nothing about a trial without signs of life: that is the business of those who ask for trials."""
