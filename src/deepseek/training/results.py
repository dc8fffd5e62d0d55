"""How training goes, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass, field

from deepseek.optim import Told
from deepseek.training.state import Best


@dataclass(frozen=True)
class Progress:
    """How training goes, as of the last event.

    Attributes:
        loss: Training loss since the last validation.
        learning_rate: The learning rate of the last step, before what groups of parameters multiply it by.
        samples_per_s: Training rows a second since the fit began, validation not counted, over all ranks.
        data_wait_share: Part of that time in which the step waited for data, in [0, 1].
        skipped_steps: Steps not made because a gradient was NaN or infinite, since the fit began.
        told: How gradients were clipped, which steps were left out for their size, and the rates by layer.
    """

    loss: float = float("nan")
    learning_rate: float = 0.0
    samples_per_s: float = 0.0
    data_wait_share: float = 0.0
    skipped_steps: int = 0
    told: Told = field(default_factory=Told)


@dataclass(frozen=True)
class FitResult:
    """What a fit came to.

    Attributes:
        history: One entry a validation: step, epoch, seconds, learning rate, training loss, and the validation metrics.
        best: The best validation, whose weights are in the model unless `restore_best` is off.
        stopped_reason: `finished`, or why it ended before.
        seconds: Time spent, over all resumes.
        samples_per_s: Training rows a second, over all ranks.
        data_wait_share: Part of the training time spent waiting for data, in [0, 1]; high means that data is what is slow.
    """

    history: list[dict[str, float]]
    best: Best | None
    stopped_reason: str
    seconds: float
    samples_per_s: float
    data_wait_share: float
