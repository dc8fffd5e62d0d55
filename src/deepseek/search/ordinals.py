"""A trial's place among those that were proposed: its number without those that were put back into the queue, or taken back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

ORDINAL = "deepseek:ordinal"
"""The attribute of a trial that was put back into the queue: the ordinal of the one that it stands for."""
WITHDRAWN = "deepseek:withdrawn"
"""The attribute of a trial that was taken back before it began, because others had filled the study meanwhile."""


def ordinal_of(trial: FrozenTrial, trials: Iterable[FrozenTrial]) -> int:
    """Return a trial's place in the study, from 0: how many proposals were made before it."""
    if ORDINAL in trial.user_attrs:
        return int(trial.user_attrs[ORDINAL])
    return sum(one.number < trial.number and ORDINAL not in one.user_attrs and WITHDRAWN not in one.user_attrs for one in trials)
