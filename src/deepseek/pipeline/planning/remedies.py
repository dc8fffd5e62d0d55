"""What to change where memory does not suffice, each with what it comes to: measured on the network like everything else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from deepseek.components import FAMILIES
from deepseek.pipeline.planning.devices import Share
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


def remedies(subject: Subject, share: Share, *, budget: int, devices: int) -> list[Remedy]:
    """Return what can be changed, the cheapest first; those that do not suffice alone stand there too, with what they bring.

    Args:
        subject: What is planned.
        share: What each device takes as it is.
        budget: What each may take.
        devices: How many devices there are.
    """
    found = [*_alone(subject, share, budget), *_other_steps(subject, share, budget), *_shared(subject, share, budget, devices)]
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


def _alone(subject: Subject, share: Share, budget: int) -> Iterator[Remedy]:
    rows, before, least = subject.batch_size, min(subject.settings.accumulate, subject.batch_size), share.memory.least_rows
    parts = [parts for parts in _divisors(rows, above=before) if rows // share.devices // parts >= least]
    if subject.settings.compile != "step" and parts:
        enough = next((some for some in parts if share.peak(rows, accumulate=some) <= budget), parts[-1])
        peak = share.peak(rows, accumulate=enough)
        same = "each with batch statistics of its own" if least > 1 else "the same step, to rounding, in more pieces"
        yield Remedy(f"train.accumulate={enough}", f"the batch of {rows} in {enough} parts: {same}", peak, peak <= budget)
    smaller = share.most(budget, accumulate=before, most=rows)
    size = before << ((smaller // before).bit_length() - 1) if smaller >= before else 0  # micro-batches share a batch evenly
    if least * share.devices <= size < rows:
        peak = share.peak(size, accumulate=before)
        yield Remedy(f"train.batch_size={size}", "another training: the learning rate should go with it", peak, peak <= budget)


def _other_steps(subject: Subject, share: Share, budget: int) -> Iterator[Remedy]:
    """Yield what is known only by making the step in another way."""
    settings, model = subject.settings, subject.model

    def peak_with(step: Growth) -> int:
        return replace(share, memory=replace(share.memory, step=step)).peak(subject.batch_size, accumulate=settings.accumulate)

    if settings.compile == "off" and settings.activation_checkpointing not in (1, "auto") and repeated_blocks(model):
        before = settings.activation_checkpointing
        apply_recomputation(model, 1)
        peak = peak_with(_step(subject))
        apply_recomputation(model, before if isinstance(before, int) else 0)
        what = "activations of repeated blocks are reckoned again: the same numbers, about a third more arithmetic"
        yield Remedy("train.activation_checkpointing=1", what, peak, peak <= budget)
    if settings.precision in ("auto", "fp32") and settings.compile != "step":
        peak = peak_with(_step(subject, precision="bf16"))
        yield Remedy("train.precision=bf16", "shorter numbers inside the network: close to the same results", peak, peak <= budget)


def _shared(subject: Subject, share: Share, budget: int, devices: int) -> Iterator[Remedy]:
    """Yield more devices than the recipe asks for, and the network in shares where it is in copies."""
    memory, batch, parts = share.memory, subject.batch_size, subject.settings.accumulate
    devices = max(min(devices, batch // memory.least_rows), share.devices)
    if devices < 2 or memory.host:  # ranks on a processor share its memory, and each takes the libraries anew
        return
    more = [f"train.devices={devices}"] if devices > share.devices else []
    if more:
        each = replace(share, devices=devices)
        peak = each.peak(batch, accumulate=parts)
        yield Remedy(more[0], f"{each.rows(batch)} rows of each batch on each of {devices} devices", peak, peak <= budget)
    if not share.sharded and "strategy" in FAMILIES and "fsdp" in FAMILIES["strategy"][1]:
        peak = replace(share, devices=devices, sharded=True).peak(batch, accumulate=parts)
        what = f"weights, gradients and optimizer state in {devices} shares"
        yield Remedy(" ".join([*more, "train.strategy=fsdp"]), what, peak, peak <= budget)


def _step(subject: Subject, *, precision: str = "") -> Growth:
    """Return what a step takes as the network is now, in the recipe's number format where none is given."""
    settled = precision or ("fp32" if subject.settings.precision == AUTO else subject.settings.precision)
    with kept_generators(CPU):
        return step_growth(subject.model, subject.model.task.loss, subject.batch(FEW, longest=True), precision=settled)


def _divisors(rows: int, *, above: int) -> Iterator[int]:
    yield from (parts for parts in range(max(above, 1) + 1, rows + 1) if rows % parts == 0)
