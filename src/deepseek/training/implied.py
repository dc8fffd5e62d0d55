"""The callbacks that settings ask for."""

from __future__ import annotations

from deepseek.registry import family
from deepseek.training.callbacks.base import Callback
from deepseek.training.callbacks.time_limit import TimeLimit
from deepseek.training.loss_spikes import LossSpikes
from deepseek.training.settings import TrainSettings


def implied_callbacks(settings: TrainSettings) -> list[Callback]:
    """Return the callbacks that settings ask for, in the order in which they are called."""
    callbacks: list[Callback] = []
    if settings.loss_spikes is not None:
        callbacks.append(LossSpikes(deviations=settings.loss_spikes))
    if settings.early_stopping is not None:
        callbacks.append(family("callback").build({"type": "early_stopping", **settings.early_stopping}))
    if settings.time_limit_s is not None:
        callbacks.append(TimeLimit(seconds=settings.time_limit_s))
    return callbacks
