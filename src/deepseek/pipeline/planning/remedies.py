"""What to change where memory does not suffice, each with what it comes to: measured on the network like everything else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from deepseek.components import FAMILIES
from deepseek.pipeline.planning.devices import sharded_peak
from deepseek.pipeline.planning.memory import RunMemory
from deepseek.pipeline.planning.subject import CPU, Subject
from deepseek.recipe import AUTO
from deepseek.training.memory.live import Growth
from deepseek.training.memory.needs import FEW, step_growth
from deepseek.training.memory.recomputation import apply_recomputation, repeated_blocks
from deepseek.training.state import kept_generators


@dataclass(frozen=True)
class Remedy:
    """One thing that can be changed.

    Attributes:
        change: The keys to set, as `--set` takes them; empty where it is no key.
        what: What it is and costs, in words.
        peak_bytes: The most that is then taken at once.
        fits: Whether that is within the budget.
    """

    change: str
    what: str
    peak_bytes: int
    fits: bool

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


def remedies(subject: Subject, memory: RunMemory, *, budget: int, devices: int) -> list[Remedy]:
    """Return what can be changed, the cheapest first; those that do not suffice alone stand there too, with what they bring.

    Args:
        subject: What is planned.
        memory: What it takes as it is.
        budget: What may be taken.
        devices: How many devices there are.
    """
    found = [*_alone(subject, memory, budget), *_other_steps(subject, memory, budget), *_shared(subject, memory, budget, devices)]
    return sorted(found, key=lambda remedy: not remedy.fits)


def with_recomputation(subject: Subject, memory: RunMemory) -> tuple[RunMemory, int]:
    """Have a network's repeated blocks reckon their activations again; return what the run then takes, and 1, or 0 where it has none.

    Args:
        subject: What is planned.
        memory: What it takes as it is.
    """
    if subject.settings.compile != "off" or not repeated_blocks(subject.model):
        return memory, 0
    apply_recomputation(subject.model, 1)
    return replace(memory, step=_step(subject)), 1


def _alone(subject: Subject, memory: RunMemory, budget: int) -> Iterator[Remedy]:
    rows, before = subject.batch_size, min(subject.settings.accumulate, subject.batch_size)
    parts = [parts for parts in _divisors(rows, above=before) if rows // parts >= memory.least_rows]
    if subject.settings.compile != "step" and parts:
        enough = next((some for some in parts if memory.peak(rows, accumulate=some) <= budget), parts[-1])
        peak = memory.peak(rows, accumulate=enough)
        same = "each with batch statistics of its own" if memory.least_rows > 1 else "the same step, to rounding, in more pieces"
        yield Remedy(f"train.accumulate={enough}", f"the batch of {rows} in {enough} parts: {same}", peak, peak <= budget)
    smaller = memory.most_rows(budget, accumulate=before, most=rows)
    size = before << ((smaller // before).bit_length() - 1) if smaller >= before else 0  # micro-batches share a batch evenly
    if memory.least_rows <= size < rows:
        peak = memory.peak(size, accumulate=before)
        yield Remedy(f"train.batch_size={size}", "another training: the learning rate should go with it", peak, peak <= budget)


def _other_steps(subject: Subject, memory: RunMemory, budget: int) -> Iterator[Remedy]:
    """Yield what is known only by making the step in another way."""
    rows, settings, model = subject.batch_size, subject.settings, subject.model
    parts = settings.accumulate
    if settings.compile == "off" and settings.activation_checkpointing not in (1, "auto") and repeated_blocks(model):
        before = settings.activation_checkpointing
        apply_recomputation(model, 1)
        peak = replace(memory, step=_step(subject)).peak(rows, accumulate=parts)
        apply_recomputation(model, before if isinstance(before, int) else 0)
        what = "activations of repeated blocks are reckoned again: the same numbers, about a third more arithmetic"
        yield Remedy("train.activation_checkpointing=1", what, peak, peak <= budget)
    if settings.precision in ("auto", "fp32") and settings.compile != "step":
        peak = replace(memory, step=_step(subject, precision="bf16")).peak(rows, accumulate=parts)
        yield Remedy("train.precision=bf16", "shorter numbers inside the network: close to the same results", peak, peak <= budget)


def _shared(subject: Subject, memory: RunMemory, budget: int, devices: int) -> Iterator[Remedy]:
    devices = min(devices, subject.batch_size // memory.least_rows)
    if devices < 2 or memory.host:  # ranks on a processor share its memory, and each takes the libraries anew
        return
    share = -(-subject.batch_size // devices)
    parts = min(subject.settings.accumulate, share)
    peak = memory.peak(share, accumulate=parts, devices=devices)
    yield Remedy(f"train.devices={devices}", f"{share} rows of each batch on each of {devices} devices", peak, peak <= budget)
    if "strategy" in FAMILIES and "fsdp" in FAMILIES["strategy"][1]:
        peak = sharded_peak(memory, share, devices, accumulate=parts)
        what = f"weights, gradients and optimizer state in {devices} shares"
        yield Remedy(f"train.devices={devices} train.strategy=fsdp", what, peak, peak <= budget)


def _step(subject: Subject, *, precision: str = "") -> Growth:
    """Return what a step takes as the network is now, in the recipe's number format where none is given."""
    settled = precision or ("fp32" if subject.settings.precision == AUTO else subject.settings.precision)
    with kept_generators(CPU):
        return step_growth(subject.model, subject.model.task.loss, subject.batch(FEW, longest=True), precision=settled)


def _divisors(rows: int, *, above: int) -> Iterator[int]:
    yield from (parts for parts in range(max(above, 1) + 1, rows + 1) if rows % parts == 0)
