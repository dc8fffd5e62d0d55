"""What a processor's memory holds beside tensors: kernels and threads, and what the system's allocator keeps of what was given back.

The allocator is the larger part, and differs by system: some versions of glibc seldom use a freed block again that was asked for with
an alignment, as PyTorch asks for all of its. So a few real steps are made, of the size of the batch or as large as a bound allows, and what
the process has grown by is set against what its tensors took.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepseek.pipeline.planning.resident import forget_highest, give_back, highest_bytes
from deepseek.pipeline.planning.subject import CPU, Subject
from deepseek.training.autotune import Way, trial_step
from deepseek.training.evaluation import evaluate
from deepseek.training.memory.live import Growth
from deepseek.training.state import kept_generators

FIXED_BYTES = 48 << 20
"""What kernels and threads take once a step has been made."""
ASSUMED = 1.6
"""How many times its tensors' memory a step holds, where nothing is measured."""
OBSERVED_BYTES = 256 << 20
"""Steps are made with so many rows that they take about this much."""
_LEAST_STEPS, _MOST_STEPS = 3, 12
_STILL = 0.01
"""A step by which the process grows by less than this part of all that it has grown by says that the allocator has what it wants."""
_LIMITS = (1.0, 3.0)


@dataclass(frozen=True)
class Overhead:
    """What is held beside tensors.

    Attributes:
        fixed: Bytes, whatever the work.
        factor: How many times what tensors take at the highest moment is held.
        how: `measured` or `assumed`.
    """

    fixed: int
    factor: float
    how: str


NONE = Overhead(0, 1.0, "measured")
"""Of an accelerator: PyTorch's allocator gives out again what was given back."""


def assumed_overhead() -> Overhead:
    """Return what is taken where no step is made."""
    return Overhead(FIXED_BYTES, ASSUMED, "assumed")


def observed_overhead(subject: Subject, *, step: Growth, answer: Growth, kept: int, precision: str, before: int) -> Overhead:
    """Make steps and answer rows, and return what this process grew by beside its tensors.

    Args:
        subject: What is planned.
        step: What forward and backward pass take, gradients included.
        answer: What it takes to answer rows.
        kept: What the copy that makes the steps holds: weights and the optimizer's state.
        precision: The number format.
        before: What this process held before the first step of this network was made in it: `step` and `answer` have made some, the kernels
            are loaded since, and with a small batch the allocator has all that it asks for.
    """
    part = -(-subject.batch_size // subject.settings.accumulate)
    rows = max(step.most_rows(OBSERVED_BYTES, most=part), min(2, part))
    answered = max(answer.most_rows(OBSERVED_BYTES, most=subject.answered_rows), min(1, subject.answered_rows))
    with kept_generators(CPU):
        give_back()
        forget_highest()
        make = trial_step(subject.model, subject.model.task.loss, spec=subject.trainer.optimizer_spec, way=Way(precision))
        known = 0
        for number in range(_MOST_STEPS):
            make(subject.rows.take((np.arange(rows) + number * rows) % len(subject.rows)))
            highest = highest_bytes()
            if number + 1 >= _LEAST_STEPS and highest - known <= _STILL * (highest - before):
                break
            known = highest
        if answered:
            evaluate(subject.model, subject.model.task, [subject.batch(answered)])
        grown = highest_bytes() - before - kept
    tensors = max(step.peak(rows), answer.peak(answered))
    if not before or tensors <= 0:
        return assumed_overhead()
    low, high = _LIMITS
    factor = min(max((grown - FIXED_BYTES) / tensors, low), high)
    return Overhead(FIXED_BYTES, factor, "measured")
