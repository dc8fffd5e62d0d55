"""What `auto` settings mean on this machine, for this model: measured on copies before the first step, never guessed.

A shorter number format or another memory layout is faster where a processor has units for it and slower where it has not; so each candidate
makes real steps on a copy of the model, and one that is not clearly faster than plain float32 is not taken.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from deepseek.data.batch import Batch, with_channels_last
from deepseek.distributed.devices import device_memory, has_native_bf16, is_out_of_memory, peak_bytes, synchronize
from deepseek.distributed.precision import make_precision
from deepseek.optim import OptimizerSpec, decay_groups
from deepseek.training.memory.needs import FREE_SHARE
from deepseek.training.state import Json
from deepseek.training.step import Loss, TrainingStep

BUDGET_S = 1.0
MARGIN = 0.9
"""Another number format is taken where its step takes at most this part of float32's: less is within the noise of measuring."""
_MOST_ROWS = 1 << 20
_LEAST_TURNS, _MOST_TURNS = 2, 6
_STEP_S = 0.1
"""A trial step that takes longer says no more than one of this length; it gets fewer rows."""
_PROBE_S = 0.5
_HOPELESS = 3.0
"""A candidate whose first step takes so many times the best one's, and longer than the whole budget, is given no second."""


@dataclass(frozen=True)
class Way:
    """A way of running the step.

    Attributes:
        precision: The number format.
        channels_last: Whether images and filters are laid out with channels last.
    """

    precision: str = "fp32"
    channels_last: bool = False

    def __str__(self) -> str:
        return f"{self.precision}{' channels_last' if self.channels_last else ''}"


def choose_way(model: nn.Module, loss: Loss, batch: Batch, *, spec: OptimizerSpec, ways: Sequence[Way]) -> Json:
    """Measure ways of running the step on copies of the model and return the fastest and why.

    Args:
        model: Stays as it is.
        loss: As for `TrainingStep`.
        batch: A batch of the size to be trained with, on the model's device.
        spec: The optimizer.
        ways: The candidates; the first is the one to beat.

    Returns:
        `precision`, `channels_last`, `milliseconds` by candidate, and `reason`.
    """
    if len(ways) == 1:
        return {
            "precision": ways[0].precision,
            "channels_last": ways[0].channels_last,
            "reason": "the only candidate for these settings, model and device",
        }
    first = trial_step(model, loss, spec=spec, way=ways[0])
    rest = {way: trial_step(model, loss, spec=spec, way=way) for way in ways[1:]}
    times = _milliseconds({ways[0]: first, **rest}, _enough_rows(first, batch))
    fastest = min(times, key=lambda way: times[way])
    plain = [way for way in ways if way.precision == ways[0].precision]
    fallback = min(plain, key=lambda way: times[way])  # the layout changes no number: any gain will do
    chosen = fastest if times[fastest] <= MARGIN * times[fallback] else fallback
    ratio = times[ways[0]] / times[chosen]
    reason = f"{chosen} is {ratio:.2f} times as fast as {ways[0]}" if chosen != ways[0] else f"nothing is clearly faster than {ways[0]}"
    measured = {str(way): round(value, 4) for way, value in times.items()}
    return {"precision": chosen.precision, "channels_last": chosen.channels_last, "milliseconds": measured, "reason": reason}


def step_seconds(model: nn.Module, loss: Loss, batch: Batch, *, spec: OptimizerSpec, way: Way) -> float:
    """Return how long a training step takes, made on a copy of the model: the median of five, after one to warm up."""
    trial = trial_step(model, loss, spec=spec, way=way)
    taken = []
    for _ in range(6):
        began = time.perf_counter()
        trial(batch)
        synchronize(next(model.parameters()).device)
        taken.append(time.perf_counter() - began)
    return sorted(taken[1:])[2]


def steps_within(limit_s: float, step_s: float) -> int:
    """Return how many steps to plan for a time limit, so that the learning-rate schedule reaches its end within it.

    Training that is merely cut off never makes the small last steps, to which a schedule owes most of what it is good for. A fifth of the
    time is left for validation, for loading, and for a machine that grows slower.

    Example:
        >>> steps_within(60.0, 0.01)
        4800
    """
    return max(int(0.8 * limit_s / step_s), 1)


def candidate_ways(model: nn.Module, device: torch.device | None, *, precision: str, channels_last: bool | str) -> list[Way]:
    """Return the ways worth measuring under the settings; formats that the processor would emulate are left out.

    Args:
        model: What is trained.
        device: Where; none for an accelerator that is not here and cannot be asked: it is taken to multiply bfloat16 in hardware.
        precision: A number format, or `auto`.
        channels_last: Whether images are laid out so, or `auto`.
    """
    images = any(isinstance(module, nn.Conv2d) for module in model.modules())
    short = precision == "auto" and (device is None or bf16_may_pay(device, images=images))
    formats = [precision] if precision != "auto" else ["fp32", *(["bf16"] if short else [])]
    layouts = [bool(channels_last)] if channels_last != "auto" else [False, True] if images else [False]
    ways = [Way(name, layout) for name in formats for layout in layouts]
    pays_nowhere = Way("bf16", channels_last=False)  # beside its twin with channels last: a trial saved
    return [way for way in ways if len(layouts) == 1 or way != pays_nowhere]


def bf16_may_pay(device: torch.device, *, images: bool) -> bool:
    """Say whether bfloat16 is worth a trial with the model.

    On a processor one small layer is timed in both formats first: what the processor can and what the library below uses of it are two
    things (`ONEDNN_MAX_CPU_ISA`), and where bfloat16 is emulated a single step of a network may take half a minute.

    Args:
        device: Where the model is.
        images: Whether the model is made of convolutions, else of matrix products.
    """
    if not has_native_bf16(device):
        return False
    if device.type != "cpu":
        return True
    plain, short = (_probe_s(images, dtype) for dtype in (torch.float32, torch.bfloat16))
    return short < plain


def _probe_s(images: bool, dtype: torch.dtype) -> float:
    """Return the seconds of one layer, forward and backward: the better of two, after one to warm up."""
    x, w = (torch.ones(2, 64, 28, 28), torch.ones(64, 64, 3, 3)) if images else (torch.ones(256, 256), torch.ones(256, 256))
    layout = torch.channels_last if images else torch.contiguous_format
    x, w = (tensor.to(dtype, memory_format=layout).requires_grad_() for tensor in (x, w))
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        out = functional.conv2d(x, w, padding=1) if images else x @ w
        out.sum().backward()  # type: ignore[no-untyped-call]
        taken.append(time.perf_counter() - began)
        if taken[-1] > _PROBE_S:
            break
    return min(taken[1:] or taken)


def choose_batch_size(make_batch: Callable[[int], Batch], model: nn.Module, loss: Loss, *, spec: OptimizerSpec, rows: int) -> Json:
    """Return a batch size: on a processor by the number of rows, on an accelerator also by memory, of which 20 % are kept free.

    Args:
        make_batch: Returns a batch of so many rows, on the model's device.
        model: Stays as it is.
        loss: As for `TrainingStep`.
        spec: The optimizer.
        rows: The rows of the training set.
    """
    wanted = min(max(1 << (max(rows, 1) // 100).bit_length(), 32), 1024)
    device = next(model.parameters()).device
    if device.type == "cpu":
        return {"batch_size": wanted, "reason": f"about a hundredth of {rows} rows, within 32 and 1024"}
    if not device_memory(device).total_bytes:
        reason = f"about a hundredth of {rows} rows, within 32 and 1024; {device.type} does not tell how much memory it has"
        return {"batch_size": wanted, "reason": reason}
    fits = largest_fit(lambda size: _peak_bytes(make_batch(size), model, loss, spec), device_memory(device).free_bytes, most=wanted)
    return {"batch_size": fits, "reason": f"about a hundredth of {rows} rows, as far as memory allows with 20 % of it kept free"}


def largest_fit(peak_bytes: Callable[[int], int | None], free_bytes: int, *, most: int = _MOST_ROWS) -> int:
    """Return the largest power of two, up to `most`, whose peak memory stays within 80 % of what is free; at least 1.

    Args:
        peak_bytes: What a batch of so many rows takes, nothing where the device keeps no such figure: then whatever does not run out of
            memory fits. Raises what the device does where it runs out.
        free_bytes: What there is.
        most: The largest size tried.
    """
    size = 1
    while size * 2 <= most:
        try:
            peak = peak_bytes(size * 2)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            break
        if peak is not None and peak > (1 - FREE_SHARE) * free_bytes:
            break
        size *= 2
    return size


def _peak_bytes(batch: Batch, model: nn.Module, loss: Loss, spec: OptimizerSpec) -> int | None:
    return peak_bytes(next(model.parameters()).device, lambda: trial_step(model, loss, spec=spec, way=Way())(batch))


def trial_step(model: nn.Module, loss: Loss, *, spec: OptimizerSpec, way: Way) -> Callable[[Batch], None]:
    """Return what makes training steps in some way on a copy of a model.

    Args:
        model: Stays as it is.
        loss: As for `TrainingStep`.
        spec: The optimizer.
        way: The number format and the layout.
    """
    twin = copy.deepcopy(model).train()
    if way.channels_last:
        twin = twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    step = TrainingStep(twin, loss, spec.build(decay_groups(twin)), precision=make_precision(way.precision, next(twin.parameters()).device))
    layout: Callable[[Batch], Batch] = with_channels_last if way.channels_last else lambda batch: batch
    return lambda batch: step(layout(batch))


def _enough_rows(step: Callable[[Batch], None], batch: Batch) -> Batch:
    """Return as many rows of the batch as a step of about a tenth of a second takes, all of them where that is less."""
    rows = 2  # batch normalisation has no variance of one row
    while rows < len(batch):
        few = batch.cut([rows, len(batch) - rows])[0]
        # the first try warms up, and a stall of the machine is no reason to judge by two rows
        tries = (_seconds(step, few) for _ in range(3))
        if all(taken > _STEP_S / 2 for taken in tries):
            return few
        rows *= 4
    return batch


def _seconds(step: Callable[[Batch], Any], batch: Batch) -> float:
    """Return how long a step takes; on a processor what it took of it, by thread, so that other work on the machine says nothing."""
    device = next(iter(batch.inputs.values())).device
    clock, threads = (time.process_time, torch.get_num_threads()) if device.type == "cpu" else (time.perf_counter, 1)
    began = clock()
    step(batch)
    synchronize(device)
    return (clock() - began) / threads


def _milliseconds(steps: Mapping[Way, Callable[[Batch], Any]], batch: Batch) -> dict[Way, float]:
    """Return each way's best time. They take turns, and the best counts: other work on the machine only ever adds."""
    times: dict[Way, list[float]] = {way: [] for way in steps}
    began = time.perf_counter()
    for turn in range(_MOST_TURNS):
        for way, step in steps.items():
            if not turn or times[way][0] < max(BUDGET_S, _HOPELESS * min(taken[0] for taken in times.values())):
                times[way].append(_seconds(step, batch))
        if turn + 1 >= _LEAST_TURNS and time.perf_counter() - began > BUDGET_S:  # the first turn only warms up
            break
    return {way: min(taken) * 1e3 for way, taken in times.items()}
