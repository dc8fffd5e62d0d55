"""Learning-rate schedules as pure functions of the step, so that a resumed run needs no state to go on exactly.

The one exception is `plateau`, which looks at the validation metric; its state is three numbers in the checkpoint.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

from deepseek.errors import InputError

Fraction = Annotated[float, Ge(0), Le(1)]
Inner = Annotated[float, Gt(0), Lt(1)]


class Schedule(ABC):
    """How the learning rate changes over a run, as a factor on the optimizer's own.

    Args:
        warmup_steps: Steps over which the factor grows from near 0 to 1.
        warmup: The same as a fraction of the run, in [0, 1]; give one of the two.
    """

    def __init__(self, *, warmup_steps: Annotated[int, Ge(0)] = 0, warmup: Fraction = 0.0) -> None:
        if warmup_steps and warmup:
            raise InputError(f"warmup_steps is {warmup_steps} and warmup is {warmup}", hint="give one of the two")
        self.warmup_steps, self.warmup = warmup_steps, warmup

    def factor(self, step: int, total_steps: int) -> float:
        """Return the factor for a step.

        Args:
            step: The step about to be made, from 0.
            total_steps: How many steps the run has.
        """
        warm = min(self.warmup_steps or round(self.warmup * total_steps), total_steps)
        if step < warm:
            return (step + 1) / warm
        return self.shape(step - warm, max(total_steps - warm, 1))

    @abstractmethod
    def shape(self, step: int, steps: int) -> float:
        """Return the factor after the warm-up: `step` of `steps`, both counted from its end."""

    def observe(self, value: float, *, higher_is_better: bool) -> None:
        """Look at a validation metric."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must survive a resume, as plain JSON values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""


class ConstantSchedule(Schedule):
    """The learning rate stays as it is, after the warm-up.

    Args:
        warmup_steps: Steps over which the factor grows from near 0 to 1.
        warmup: The same as a fraction of the run.
    """

    def shape(self, step: int, steps: int) -> float:
        """Return 1."""
        return 1.0


class CosineSchedule(Schedule):
    """Falls along half a cosine (Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983).

    Args:
        warmup_steps: Steps over which the factor grows from near 0 to 1.
        warmup: The same as a fraction of the run.
        final: The factor at the end, in [0, 1].
    """

    def __init__(self, *, warmup_steps: Annotated[int, Ge(0)] = 0, warmup: Fraction = 0.0, final: Fraction = 0.0) -> None:
        super().__init__(warmup_steps=warmup_steps, warmup=warmup)
        self.final = final

    def shape(self, step: int, steps: int) -> float:
        """Return the cosine between 1 and `final`."""
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))


class LinearSchedule(Schedule):
    """Falls along a straight line.

    Args:
        warmup_steps: Steps over which the factor grows from near 0 to 1.
        warmup: The same as a fraction of the run.
        final: The factor at the end, in [0, 1].
    """

    def __init__(self, *, warmup_steps: Annotated[int, Ge(0)] = 0, warmup: Fraction = 0.0, final: Fraction = 0.0) -> None:
        super().__init__(warmup_steps=warmup_steps, warmup=warmup)
        self.final = final

    def shape(self, step: int, steps: int) -> float:
        """Return the line between 1 and `final`."""
        return 1.0 + (self.final - 1.0) * min(step / steps, 1.0)


class StepSchedule(Schedule):
    """Multiplies the learning rate by `gamma` at given parts of the run.

    Args:
        warmup_steps: Steps over which the factor grows from near 0 to 1.
        warmup: The same as a fraction of the run.
        milestones: The parts of the run after which it falls, each in (0, 1).
        gamma: The factor of each fall, in (0, 1).
    """

    def __init__(
        self,
        *,
        warmup_steps: Annotated[int, Ge(0)] = 0,
        warmup: Fraction = 0.0,
        milestones: tuple[Inner, ...] = (0.5, 0.75),
        gamma: Inner = 0.1,
    ) -> None:
        super().__init__(warmup_steps=warmup_steps, warmup=warmup)
        self.milestones, self.gamma = milestones, gamma

    def shape(self, step: int, steps: int) -> float:
        """Return `gamma` to the power of the milestones behind."""
        return float(self.gamma ** sum(step >= milestone * steps for milestone in self.milestones))


class OneCycleSchedule(Schedule):
    """Rises to the peak and falls far below the start, both along cosines (Smith and Topin, 2018, https://arxiv.org/abs/1708.07120).

    Args:
        warmup_steps: Steps over which the factor grows from near 0 to 1; the cycle has a rise of its own, so this is rarely wanted.
        warmup: The same as a fraction of the run.
        peak: Where in the run the peak is, in (0, 1).
        start: The factor at the start, in (0, 1).
        final: The factor at the end, in [0, 1].
    """

    def __init__(
        self,
        *,
        warmup_steps: Annotated[int, Ge(0)] = 0,
        warmup: Fraction = 0.0,
        peak: Inner = 0.3,
        start: Inner = 0.04,
        final: Fraction = 4e-6,
    ) -> None:
        super().__init__(warmup_steps=warmup_steps, warmup=warmup)
        self.peak, self.start, self.final = peak, start, final

    def shape(self, step: int, steps: int) -> float:
        """Return the factor of the cycle, equal to `torch.optim.lr_scheduler.OneCycleLR`."""
        top = self.peak * steps - 1
        if step < top:
            return _cosine(self.start, 1.0, step / top)
        return _cosine(1.0, self.final, min((step - top) / max(steps - 1 - top, 1e-12), 1.0))


class PlateauSchedule(Schedule):
    """Lowers the learning rate when the monitored validation metric has stopped getting better.

    Args:
        warmup_steps: Steps over which the factor grows from near 0 to 1.
        warmup: The same as a fraction of the run.
        gamma: The factor of each fall, in (0, 1).
        patience: Validations without a gain that are waited out, at least 0.
        min_delta: The least change of the metric that counts as a gain, at least 0.
        min_factor: The least factor, in [0, 1].
    """

    def __init__(
        self,
        *,
        warmup_steps: Annotated[int, Ge(0)] = 0,
        warmup: Fraction = 0.0,
        gamma: Inner = 0.1,
        patience: Annotated[int, Ge(0)] = 5,
        min_delta: Annotated[float, Ge(0)] = 0.0,
        min_factor: Fraction = 0.0,
    ) -> None:
        super().__init__(warmup_steps=warmup_steps, warmup=warmup)
        self.gamma, self.patience, self.min_delta, self.min_factor = gamma, patience, min_delta, min_factor
        self._scale, self._best, self._waited = 1.0, -math.inf, 0

    def shape(self, step: int, steps: int) -> float:
        """Return the factor that the metrics so far have led to."""
        return self._scale

    def observe(self, value: float, *, higher_is_better: bool) -> None:
        """Count validations without a gain; lower the factor when there were too many."""
        score = value if higher_is_better else -value
        if score > self._best + self.min_delta:
            self._best, self._waited = score, 0
            return
        self._waited += 1
        if self._waited > self.patience:
            self._scale, self._waited = max(self._scale * self.gamma, self.min_factor), 0

    def state_dict(self) -> dict[str, Any]:
        """Return factor, best value and validations waited."""
        return {"scale": self._scale, "best": None if math.isinf(self._best) else self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._scale, self._waited = state["scale"], state["waited"]
        self._best = -math.inf if state["best"] is None else state["best"]


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * progress) + 1)
