"""What does not go together in a training, refused before the first step."""

from __future__ import annotations

from torch import nn

from deepseek.data.prepared import PreparedDataset
from deepseek.distributed import RankContext
from deepseek.errors import InputError
from deepseek.optim import Schedule
from deepseek.optim.schedules import PlateauSchedule
from deepseek.training.balance import check_shares
from deepseek.training.carried import remembering
from deepseek.training.settings import TrainSettings


def refuse_contradictions(
    settings: TrainSettings,
    model: nn.Module,
    schedule: Schedule,
    *,
    ranks: RankContext,
    train: PreparedDataset,
    validation: PreparedDataset | None,
) -> None:
    """Refuse settings that contradict each other, the model or the rows.

    Args:
        settings: How is to be trained.
        model: What is trained.
        schedule: The learning rate's course.
        ranks: This process's place in the job.
        train: The training rows.
        validation: The rows to validate with; none for none.

    Raises:
        InputError: They do, with what to change.
    """
    _refuse_compiling(settings, model, train)
    check_shares(settings.shares, ranks.ranks, model)
    if validation is None and settings.early_stopping is not None:
        raise InputError("early_stopping is asked for and there are no validation rows", hint="split some off, or leave early_stopping out")
    if validation is None and isinstance(schedule, PlateauSchedule):
        raise InputError("the schedule 'plateau' needs validation rows and there are none", hint="split some off, or take another schedule")
    if not len(train) or (validation is not None and not len(validation)):
        raise InputError("there are no rows to train on or to validate with", hint="look at the split and at what the checks set aside")


def _refuse_compiling(settings: TrainSettings, model: nn.Module, train: PreparedDataset) -> None:
    if settings.compile != "off" and settings.activation_checkpointing != "off":
        what = f"activation_checkpointing does not go with compile: {settings.compile}, whose compiler decides what it keeps"
        raise InputError(what, hint="take one of them")
    if settings.compile == "step" and settings.accumulate > 1:
        raise InputError(f"compile: step does not go with accumulate: {settings.accumulate}", hint="take compile: model, or accumulate: 1")
    if settings.compile == "step" and train.is_ragged:
        raise InputError(
            "compile: step needs batches of one shape, and texts make each batch as long as its longest", hint="take compile: model or off"
        )
    if settings.compile != "off" and any(remembering(model)):
        raise InputError(f"compile: {settings.compile} does not go with a network that remembers", hint="take compile: off, or mem_len: 0")
    if settings.compile == "step" and settings.fine_tune is not None and settings.fine_tune.unfreeze_every is not None:
        raise InputError("compile: step does not go with fine_tune.unfreeze_every", hint="take compile: model or off")
