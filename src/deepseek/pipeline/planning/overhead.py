"""What a processor's memory holds beside tensors: kernels and threads, and what the system's allocator keeps of what was given back.

The allocator is the larger part, and differs by system: some versions of glibc seldom use a freed block again that was asked for with
an alignment, as PyTorch asks for all of its. So a few real steps are made, of the size of the batch or as large as a bound allows, and of
that of the last batch of an epoch, and what the process has grown by is set against what its tensors took.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepseek.data.loader import GROUPED_BATCHES, Loader
from deepseek.pipeline.planning.resident import forget_highest, highest_bytes
from deepseek.pipeline.planning.subject import CPU, Subject
from deepseek.training.autotune import Way, trial_step
from deepseek.training.evaluation import evaluate
from deepseek.training.memory.allocator import give_back
from deepseek.training.memory.live import Growth
from deepseek.training.memory.needs import free_bytes
from deepseek.training.state import kept_generators

FIXED_BYTES = 48 << 20
"""What kernels and threads take once a step has been made."""
ASSUMED = 1.6
"""How many times its tensors' memory a step holds, where nothing is measured."""
OBSERVED_BYTES = 2 << 30
"""Steps are made with so many rows that their tensors take at most this much, and a quarter of what is free: what a small step makes the
allocator keep says little of a large one, whose blocks the system takes back at once."""
_LOOKS, _LEAST_STEPS, _MOST_STEPS = 2, 3, 12
"""Rows are answered between steps, as they are while training, and steps behind that find the memory in other pieces."""
_LENGTHS = 6
"""Batches of so many lengths are tried of an epoch."""
_STILL = 0.01
"""A step by which the process grows by less than this part of all that it has grown by says that the allocator has what it wants."""
_LIMITS = (1.0, 5.0)


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
    part = subject.part_rows
    bound = min(OBSERVED_BYTES, free_bytes(CPU) // 4)
    rows = max(step.most_rows(bound, most=part), min(2, part))
    answered = max(answer.most_rows(bound, most=subject.answered_rows), min(1, subject.answered_rows))
    with kept_generators(CPU):
        give_back()
        forget_highest()
        make = trial_step(subject.model, subject.model.task.loss, spec=subject.trainer.optimizer_spec, way=Way(precision))
        batches = Loader(subject.rows, seed=subject.settings.seed, batch_size=rows, least=subject.loader.least, prefetch=False)
        for epoch in range(_LOOKS):
            known = 0
            for number, tried in enumerate(_trial_steps(batches, epoch)):
                for place in tried:
                    make(subject.rows.take(batches.rows(epoch, place)))
                highest = highest_bytes()
                is_still = highest - known <= _STILL * (highest - before)
                if is_still and number + 1 >= _LEAST_STEPS and not subject.rows.is_ragged:
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


def _trial_steps(batches: Loader, epoch: int) -> list[list[int]]:
    """Return which batches of an epoch are tried, round by round.

    Rows of one length: a batch in turn and the epoch's last, which has kernels of its own where it is smaller, and they may want more room
    than those of a whole batch. Rows of many lengths: shorter batches before longer ones, up to the longest. What a short batch gave back
    is in pieces too small for the next; two epochs of that, whose lengths differ, leave the allocator with about what a long run does.
    """
    last = batches.steps - 1
    steps = list(range(min(last, GROUPED_BATCHES))) or [last]
    if not batches.dataset.is_ragged:
        return [sorted({steps[number % len(steps)], last}) for number in range(_MOST_STEPS)]
    longest = {step: int(batches.dataset.lengths(batches.rows(epoch, step)).max()) for step in {*steps, last}}
    steps = sorted(longest, key=lambda step: longest[step])
    return [[steps[place]] for place in np.unique(np.linspace(0, len(steps) - 1, _LENGTHS).round().astype(int))]
