"""What one training step takes of memory, part by part: measured with a few rows, known for any number of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepseek.data.batch import Batch
from deepseek.distributed.devices import device_memory
from deepseek.distributed.precision import make_precision
from deepseek.optim import OptimizerSpec, clip_norm_, decay_groups
from deepseek.optim.adaptive import make_adaptive
from deepseek.registry import Spec
from deepseek.tasks.base import Task
from deepseek.training.memory.live import Growth, LiveMemory
from deepseek.training.step import Loss

FEW = 2
"""How many rows a trial step has, and then twice as many: batch normalisation has no variance of one row."""
FREE_SHARE = 0.2
"""The part of the memory that is kept free."""


@dataclass(frozen=True)
class UpdateMemory:
    """What an optimizer takes.

    Attributes:
        state_bytes: What it keeps from step to step.
        peak_bytes: What it takes besides for the length of its step, with the clippings and rates by layer that go with it.
        rules_bytes: What those keep from step to step: rates by layer, once they differ, a second set of the weights.
    """

    state_bytes: int
    peak_bytes: int
    rules_bytes: int = 0


def step_growth(model: nn.Module, loss: Loss, few: Batch, *, precision: str = "fp32") -> Growth:
    """Return what forward and backward pass take beside the weights, gradients included, by the number of rows.

    Args:
        model: Stays as it is; a copy makes the steps.
        loss: As for `TrainingStep`.
        few: Some rows; of unequal length, the longest: a batch of them is what memory has to suffice for.
        precision: The number format.
    """
    return Growth(_step_moments(model, loss, few, precision), _step_moments(model, loss, _doubled(few), precision))


def answer_growth(model: nn.Module, task: Task, few: Batch) -> Growth:
    """Return what it takes to answer and measure rows, beside the weights, by the number of rows.

    Args:
        model: Stays as it is.
        task: Decodes, and says the loss.
        few: Some rows.
    """
    return Growth(_answer_moments(model, task, few), _answer_moments(model, task, _doubled(few)))


def weight_bytes(model: nn.Module, *, trained: bool = False) -> int:
    """Return what a network's parameters and buffers take, or only the parameters that are trained."""
    if trained:
        return sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return sum(tensor.nbytes for tensor in {*model.parameters(), *model.buffers()})


def update_memory(
    model: nn.Module,
    spec: OptimizerSpec,
    *,
    clip_norm: float | None = None,
    clip: Sequence[Spec] | None = None,
    layer_rates: Spec | None = None,
) -> UpdateMemory:
    """Return what an optimizer takes for a network: it makes a step on stand-ins that have shapes and no memory.

    Args:
        model: The network.
        spec: The optimizer.
        clip_norm: The largest joint norm of the gradients, where they are clipped.
        clip: `clipping` components.
        layer_rates: A `layer_rates` component.
    """
    rules = _Rules(clip_norm, clip, layer_rates)
    try:
        return _updated(model, spec, rules, torch.device("meta"))
    except (NotImplementedError, RuntimeError):  # an optimizer that looks at values cannot work on what has none
        return _updated(model, spec, rules, torch.device("cpu"))


def free_bytes(device: torch.device) -> int:
    """Return how much memory a device has to give; of a processor, with what the system would give back at once."""
    if device.type != "cpu":
        return device_memory(device).free_bytes
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        available = device_memory(device).free_bytes
    return min([available, *_container_free()])


def _container_free(folder: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Return what a container's limit leaves, where one is set; files that were read and are not in use are given up at once."""
    try:
        limit, used = ((folder / f"memory.{name}").read_text(encoding="ascii").strip() for name in ("max", "current"))
        told = dict(line.split(maxsplit=1) for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except OSError:
        return []
    return [max(int(limit) - int(used) + int(told.get("inactive_file", 0)), 0)] if limit.isdecimal() else []


def _step_moments(model: nn.Module, loss: Loss, batch: Batch, precision: str) -> tuple[int, list[int]]:
    twin = copy.deepcopy(model).train()  # a fresh one each time: running statistics and memories are its own
    for parameter in twin.parameters():
        parameter.grad = None
    forward = make_precision(precision, next(twin.parameters()).device).wrap(lambda rows: loss(twin(rows.inputs), rows))
    with LiveMemory() as memory:
        numerator, _ = forward(batch)
        torch.autograd.backward(numerator)
        del numerator
    return len(batch), memory.moments


def _answer_moments(model: nn.Module, task: Task, batch: Batch) -> tuple[int, list[int]]:
    twin = copy.deepcopy(model).eval()
    with torch.inference_mode(), LiveMemory() as memory:
        out = twin(batch.inputs).float()
        decoded = task.decode(out)
        task.loss(out, batch)
        del out, decoded
    return len(batch), memory.moments


@dataclass(frozen=True)
class _Rules:
    clip_norm: float | None
    clip: Sequence[Spec] | None
    layer_rates: Spec | None


def _updated(model: nn.Module, spec: OptimizerSpec, rules: _Rules, device: torch.device) -> UpdateMemory:
    twin = copy.deepcopy(model).to(device) if device.type != "meta" else _hollow(model)
    optimizer = spec.build(decay_groups(twin))
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # makes the state
    state = sum(value.nbytes for values in optimizer.state.values() for value in values.values() if isinstance(value, Tensor))
    gradients: Sequence[Tensor] = [parameter.grad for parameter in trained if parameter.grad is not None]
    with torch.no_grad(), LiveMemory() as kept:
        adaptive = make_adaptive(twin, optimizer, clip=rules.clip, layer_rates=rules.layer_rates)
        if adaptive is not None:
            adaptive.load_state_dict(adaptive.state_dict())  # as after a resume: from now on layers' factors may differ
            adaptive.hold()
    with torch.no_grad(), LiveMemory() as memory:
        if adaptive is not None:
            adaptive.look()
        if rules.clip_norm is not None:
            clip_norm_(list(gradients), rules.clip_norm)
        if adaptive is not None:
            adaptive.limit()
            adaptive.hold()
        optimizer.step()
        if adaptive is not None:
            adaptive.scale()
    return UpdateMemory(state, memory.peak_bytes, kept.live_bytes)


def _hollow(model: nn.Module) -> nn.Module:
    """Return a copy of a network whose parameters have shapes and no memory."""
    known: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        known[id(tensor)] = nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(model, known)


def _doubled(batch: Batch) -> Batch:
    """Return every row twice: what depends on what stands in a row is then twice as much, too."""

    def twice(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: torch.cat([tensor, tensor]) for name, tensor in tensors.items()}

    weight = None if batch.weight is None else torch.cat([batch.weight, batch.weight])
    row = None if batch.row is None else torch.cat([batch.row, batch.row])
    return Batch(twice(batch.inputs), twice(batch.targets), weight, row)
