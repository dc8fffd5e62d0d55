"""The components that settings imply without naming them by their whole spec."""

from __future__ import annotations

from deepseek.registry import Spec, family, split_spec
from deepseek.training.callbacks.base import Callback
from deepseek.training.callbacks.loss_spikes import LossSpikes
from deepseek.training.callbacks.time_limit import TimeLimit
from deepseek.training.settings import TrainSettings


def optimizer_of(settings: TrainSettings) -> Spec:
    """Return the spec of the optimizer, with the learning rate that is given beside it."""
    if settings.learning_rate is None:
        return settings.optimizer
    name, arguments = split_spec("optimizer", settings.optimizer)
    return {"type": name, **arguments, "learning_rate": settings.learning_rate}


def callbacks_of(settings: TrainSettings) -> list[Callback]:
    """Return the callbacks that settings ask for."""
    callbacks: list[Callback] = []
    if settings.loss_spikes is not None:
        callbacks.append(LossSpikes(deviations=settings.loss_spikes))
    if settings.early_stopping is not None:
        callbacks.append(family("callback").build({"type": "early_stopping", **settings.early_stopping}))
    if settings.time_limit_s is not None:
        callbacks.append(TimeLimit(seconds=settings.time_limit_s))
    return callbacks
