"""How long a run takes: from a few steps that are timed, or from what the network asks for and what the device could do."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from deepseek.data.batch import Batch
from deepseek.pipeline.planning.subject import CPU, Subject
from deepseek.processors import usable_cores
from deepseek.training.autotune import Way, steps_within, trial_step
from deepseek.training.evaluation import evaluate
from deepseek.training.flops import BACKWARD, forward_flops, known_peak
from deepseek.training.memory.needs import FEW
from deepseek.training.state import kept_generators, seed_generators

ENOUGH_S = 0.25
"""A step that takes longer says no more of the next than one of this length."""
USED_SHARE = 0.3
"""How much of a device's arithmetic training is taken to use where nothing is measured."""
CORE_GFLOPS = 20.0
"""What a core is taken to do, in 10⁹ operations a second, where nothing is measured."""
_TRIES = 3


@dataclass(frozen=True)
class Pace:
    """How long work takes, by its rows.

    Attributes:
        fixed_s: Seconds whatever the rows.
        row_s: Seconds for each row.
    """

    fixed_s: float
    row_s: float

    def seconds(self, rows: float) -> float:
        """Return how long so many rows take at once."""
        return self.fixed_s + self.row_s * rows


@dataclass(frozen=True)
class RunTime:
    """How long a run takes at most: early stopping may end it sooner.

    Attributes:
        how: `measured` or `assumed`.
        step: A step, by the rows computed at once, on one device.
        steps: How many steps there are.
        batch_rows: The rows of a step.
        training_s: All steps.
        validation_s: All validations, and measuring the finished model.
    """

    how: str
    step: Pace
    steps: int
    batch_rows: int
    training_s: float
    validation_s: float

    @property
    def seconds(self) -> float:
        """The whole run, from the first step to the last measurement."""
        return self.training_s + self.validation_s


def time_of(subject: Subject, *, device: torch.device, measure: bool, precision: str, most_rows: int) -> RunTime:
    """Return how long a run takes on one device.

    Args:
        subject: What is planned.
        device: What it will run on, where nothing is measured.
        measure: Whether a few steps are made and timed, on this machine's processor.
        precision: The number format of the step.
        most_rows: The most rows that memory suffices for at once.
    """
    with kept_generators(CPU):
        seed_generators(subject.settings.seed, CPU)
        step, answer = _measured(subject, precision, most_rows) if measure else _assumed(subject, device, precision)
    batch, per_epoch = subject.batch_size, max(subject.loader.steps, 1)
    steps = min(subject.settings.epochs * per_epoch, subject.settings.max_steps or 1 << 62)
    parts = -(-batch // subject.part_rows)
    step_s = parts * step.seconds(batch / parts)
    if subject.settings.time_limit_s is not None and step_s > 0:
        steps = min(steps, steps_within(subject.settings.time_limit_s, step_s))
    every = subject.settings.validate_every * (per_epoch if subject.settings.validate_unit == "epochs" else 1)
    validations = -(-steps // every)
    validated, tested = (len(subject.splits[name]) if name in subject.splits else 0 for name in ("validation", "test"))
    return RunTime(
        how="measured" if measure else "assumed",
        step=step,
        steps=steps,
        batch_rows=batch,
        training_s=steps * step_s,
        validation_s=answer.row_s * (validations * validated + validated + tested),
    )


def _measured(subject: Subject, precision: str, most_rows: int) -> tuple[Pace, Pace]:
    """Time steps with more and more rows, until one takes long enough to be told from noise or is as large as it will be."""
    model, rows = subject.model, min(subject.part_rows, max(most_rows, FEW))
    make = trial_step(model, model.task.loss, spec=subject.trainer.optimizer_spec, way=Way(precision))
    step = _pace(make, subject.batch, rows)
    changed = _changing(subject) if subject.trainer.augment else 0.0

    def answer(batch: Batch) -> None:
        evaluate(model, model.task, [batch])

    return Pace(step.fixed_s, step.row_s + changed), _pace(answer, subject.batch, min(rows, 64))


def _pace(work: Callable[[Batch], object], batch_of: Callable[[int], Batch], most: int) -> Pace:
    known: list[tuple[int, float]] = []
    size = min(FEW, most)
    while True:
        batch = batch_of(size)
        work(batch)  # the first of a shape warms up
        taken = min(_seconds(work, batch) for _ in range(_TRIES))
        known.append((size, taken))
        if taken > ENOUGH_S or size >= most:
            break
        size = min(size * 4, most)
    if len(known) == 1:
        return Pace(0.0, known[0][1] / known[0][0])
    (few, low), (more, high) = known[-2:]
    row_s = max((high - low) / (more - few), 0.0)
    return Pace(max(high - row_s * more, 0.0), row_s)


def _changing(subject: Subject) -> float:
    """Return the seconds that reading a row and changing it at random take in the thread that makes the steps."""
    trainer = copy.copy(subject.trainer)
    batch, _ = trainer.peek()
    began = time.perf_counter()
    trainer.augmented(batch, 0)
    return (time.perf_counter() - began) / max(len(batch), 1)


def _seconds(work: Callable[[Batch], object], batch: Batch) -> float:
    began = time.perf_counter()
    work(batch)
    return time.perf_counter() - began


def _assumed(subject: Subject, device: torch.device, precision: str) -> tuple[Pace, Pace]:
    few = subject.batch(FEW)
    row_flops = forward_flops(subject.model, few) / len(few)
    peak = known_peak(device, precision)
    flops = USED_SHARE * peak * 1e12 if peak is not None else CORE_GFLOPS * 1e9 * usable_cores()
    return Pace(0.0, BACKWARD * row_flops / flops), Pace(0.0, row_flops / flops)
