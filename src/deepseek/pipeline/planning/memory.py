"""Memory by part, at its highest moment: what is there all the time, and what the moment brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from deepseek.data.loader import GROUP_BYTES, QUEUED_BATCHES
from deepseek.pipeline.planning.overhead import NONE, Overhead, assumed_overhead, observed_overhead
from deepseek.pipeline.planning.resident import resident_bytes
from deepseek.pipeline.planning.subject import CPU, Subject
from deepseek.training.guards.post_mortem import KEPT_BYTES
from deepseek.training.memory.live import Growth
from deepseek.training.memory.needs import FEW, UpdateMemory, answer_growth, step_growth, update_memory, weight_bytes
from deepseek.training.state import kept_generators

ALIVE_BATCHES = 2
"""The batch in the step and the one being gathered, beside those that wait."""


@dataclass(frozen=True)
class RunMemory:
    """What a run takes of a device's memory.

    Attributes:
        weights: Parameters and buffers.
        gradients: One for each number that is trained.
        update: What the optimizer keeps, and takes for a step.
        average: The moving average of the weights.
        copies: The best weights so far, the first ones until there is a checkpoint, and what one is written from while training goes on,
            which lie in the processor's memory.
        data: What looking at the data has left, and prepared rows that lie in the processor's memory because they were read; those the
            system takes back when it wants to.
        batch_row: What a row of a batch takes.
        step: What forward and backward pass take, by the rows computed at once, gradients included.
        answer: What it takes to answer rows, by how many.
        answered_rows: How many are answered at once.
        ways: How many ways of running the step are tried on copies first.
        host: Whether the device is the processor, whose memory also holds what is kept beside a device's.
        overhead: What is held beside tensors.
        exchange: How several devices sum their gradients.
        least_rows: The fewest rows that may be computed at once, into however many micro-batches a batch is to be cut.
    """

    weights: int
    gradients: int
    update: UpdateMemory
    average: int
    copies: int
    data: int
    batch_row: int
    step: Growth
    answer: Growth
    answered_rows: int
    ways: int
    host: bool
    overhead: Overhead = NONE
    exchange: Mapping[str, object] = field(default_factory=dict)
    least_rows: int = 1

    @property
    def kept(self) -> int:
        """What is there all the time, whatever the batch."""
        update = self.update.state_bytes + self.update.rules_bytes
        return self.weights + update + self.average + ((self.copies + self.data + self.overhead.fixed) if self.host else 0)

    def exchanged(self, devices: int) -> int:
        """Return what exchanging gradients takes of each of several devices, of a server that of all, beside the messages on their way.

        Buffers of gradients stand from one step to the next there, where one device makes them anew; what short messages have lost is
        kept for the next step, for all gradients and for this device's part of their sum.
        """
        if devices < 2:
            return 0
        kept = self.gradients + -(-self.gradients // devices) if self.exchange.get("error_feedback") else 0
        served = devices * self.gradients if self.exchange.get("type") == "parameter_server" else 0
        return self.gradients + kept + served

    def pipeline(self, rows: int) -> int:
        """Return what batches take that wait, for a batch of so many rows."""
        waiting = (QUEUED_BATCHES + ALIVE_BATCHES) if self.host else 1
        return max(waiting * rows * self.batch_row, min(GROUP_BYTES, self.data) if self.host else 0)

    def moments(self, rows: int, *, accumulate: int = 1) -> dict[str, int]:
        """Return what each moment brings beside what is there all the time, by what happens in it, with what the allocator keeps.

        Args:
            rows: The rows of this device's batch.
            accumulate: The micro-batches that they are computed in.
        """
        part = max(-(-rows // accumulate), min(self.least_rows, rows))
        held = self.gradients if accumulate > 1 else 0  # of the parts before, while the next one is computed
        batches = self.pipeline(rows)
        step = max(held + self.step.peak(part), self.gradients + self.update.peak_bytes)
        moments = {"a step": batches + step, "answering": batches + self.gradients + self.answer.peak(self.answered_rows)}
        if self.host:
            moments["saving"] = batches + self.gradients + max(self.weights, self.update.state_bytes)
        if self.ways:
            copies = self.ways * (self.weights + self.gradients + self.update.state_bytes)
            absent = self.update.state_bytes + self.update.rules_bytes + self.average + (self.copies if self.host else 0)  # not there yet
            moments["measuring"] = max(copies + self.step.peak(part) - absent, 0)
        return {name: int(size * self.overhead.factor) for name, size in moments.items()}

    def peak(self, rows: int, *, accumulate: int = 1, devices: int = 1) -> int:
        """Return the most that is taken at once.

        Args:
            rows: The rows of this device's batch.
            accumulate: The micro-batches that they are computed in.
            devices: How many devices share the batch.
        """
        return self.kept + self.exchanged(devices) + max(self.moments(rows, accumulate=accumulate).values())

    def parts(self, rows: int, *, accumulate: int = 1, devices: int = 1) -> dict[str, int]:
        """Return what is taken at the highest moment, by part; the parts add up to `peak`, whose arguments these are."""
        named = {
            "weights": self.weights,
            "gradients": self.gradients,
            "optimizer state": self.update.state_bytes,
            "moving average": self.average,
            **({"rules of the step": self.update.rules_bytes} if self.update.rules_bytes else {}),
            "data pipeline": self.pipeline(rows) + (self.data if self.host else 0),
            **({"copies": self.copies, "runtime": self.overhead.fixed} if self.host else {}),
            **({"exchange": self.exchanged(devices)} if devices > 1 else {}),
        }
        highest = max(self.moments(rows, accumulate=accumulate).values())
        if self.overhead.factor > 1.0:
            named["allocator"] = highest - int(highest / self.overhead.factor)
        rest = self.peak(rows, accumulate=accumulate, devices=devices) - sum(named.values())
        if rest < 0:  # the highest moment comes before the first step, when not everything is there
            named["gradients"] += rest
            rest = 0
        return {**named, "activations": rest}


def memory_of(
    subject: Subject, *, device: torch.device | None = CPU, precision: str = "fp32", looked: int = 0, observe: bool = False
) -> RunMemory:
    """Return what a run takes, from steps with a few rows.

    Args:
        subject: What is planned.
        device: Where it will run, none for an accelerator that is not here; what it takes is reckoned on the processor.
        precision: The number format of the step.
        looked: What looking at the data has left in memory.
        observe: Whether real steps are made to see what is held beside tensors.
    """
    model, settings, before = subject.model, subject.settings, resident_bytes()
    few = subject.batch(FEW, longest=True)
    with kept_generators(CPU):
        step = step_growth(model, model.task.loss, few, precision=precision)
        answer = answer_growth(model, model.task, few)
    weights, spec = weight_bytes(model), subject.trainer.optimizer_spec
    update = update_memory(model, spec, clip_norm=settings.clip_norm, clip=settings.clip, layer_rates=settings.layer_rates)
    host, overhead = device is not None and device.type == "cpu", NONE
    if host:
        kept = weights + update.state_bytes
        overhead = assumed_overhead()
        if observe:
            overhead = observed_overhead(subject, step=step, answer=answer, kept=kept, precision=precision, before=before)
    floating = sum(tensor.nbytes for tensor in {*model.parameters(), *model.buffers()} if tensor.is_floating_point())
    average = floating if settings.ema else 0
    tensors = [*few.inputs.values(), *few.targets.values(), *([] if few.weight is None else [few.weight])]
    return RunMemory(
        weights=weights,
        gradients=weight_bytes(model, trained=True),
        update=update,
        average=average,
        copies=weights * (("validation" in subject.splits) + (weights <= KEPT_BYTES)) + weights + update.state_bytes + average,
        data=looked + sum(folder_bytes(subject.dataset.folder / name) for name in subject.splits),
        batch_row=sum(tensor.nbytes for tensor in tensors) // len(few),
        step=step,
        answer=answer,
        answered_rows=subject.answered_rows,
        ways=subject.measured_ways(device),
        host=host,
        overhead=overhead,
        exchange=subject.exchange,
        least_rows=subject.least_rows,
    )


def folder_bytes(folder: Path) -> int:
    """Return what the files of a folder take on disk."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def as_parts(parts: Mapping[str, int]) -> list[dict[str, object]]:
    """Return parts as plain JSON values, each with what it is."""
    return [{"part": name, "bytes": size, "why": _WHY[name]} for name, size in parts.items()]


_WHY = {
    "baseline": "Python and the libraries, before anything is built",
    "weights": "parameters and buffers",
    "gradients": "one for each number that is trained",
    "optimizer state": "what the optimizer keeps from step to step",
    "moving average": "train.ema keeps a second set of weights",
    "rules of the step": "train.layer_rates keeps a second set of weights; what train.clip remembers",
    "copies": "the weights of the best validation; the first ones, until there is a checkpoint; what a checkpoint is written from",
    "activations": "what the highest moment takes beside the rest",
    "data pipeline": "what looking at the data left, prepared rows that were read, and batches that wait",
    "runtime": "kernels and threads",
    "exchange": "gradients that stand from step to step to be summed over the devices, and what their messages keep",
    "held by other devices": "shares of weights, gradients and optimizer state, less the weights that are gathered at once",
    "allocator": "what the system's allocator keeps of what was given back",
}
