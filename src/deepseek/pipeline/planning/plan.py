"""The plan of a run: parameters, memory, batch, time, devices and disk, each with its reason, before anything is trained."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from deepseek import progress
from deepseek.artifacts import CACHE, StageCache
from deepseek.distributed.devices import pick_device
from deepseek.distributed.strategies.automatic import MEMORY_SHARE
from deepseek.errors import InputError
from deepseek.models.network import parameter_count
from deepseek.pipeline.planning.devices import LEAST_EFFICIENCY, Scaling, Share, scalings, worthwhile
from deepseek.pipeline.planning.memory import RunMemory, as_parts, folder_bytes, memory_of
from deepseek.pipeline.planning.remedies import Remedy, remedies, with_recomputation
from deepseek.pipeline.planning.resident import loaded_bytes, resident_bytes
from deepseek.pipeline.planning.subject import CPU, Subject, subject_of
from deepseek.pipeline.planning.timing import RunTime, time_of
from deepseek.pipeline.preparing.dataset import Dataset, make_dataset
from deepseek.pipeline.recipes import open_recipe
from deepseek.pipeline.run import choices_json, resolve
from deepseek.recipe import AUTO, Recipe
from deepseek.recipe.quantities import parse_size_bytes
from deepseek.registry import split_spec
from deepseek.reporting.numbers import binary_size
from deepseek.training.memory.allocator import freed_memory_kept
from deepseek.training.memory.needs import FREE_SHARE, free_bytes

MOST_ROWS = 1 << 20
_WITHOUT_UNIT_BYTES = 10**6
"""Who says less than this without a unit has forgotten it."""
_ALONE = {"devices": 1, "device": AUTO, "strategy": AUTO, "communication": AUTO, "shares": "equal"}
"""What is planned is built on one device, where none of these has anything to do."""


def plan(
    recipe: str | PathLike[str] | Mapping[str, Any] | Recipe,
    *,
    overrides: Sequence[str] = (),
    out: str | PathLike[str] = "runs",
    devices: int | None = None,
    device_memory: str | int | None = None,
    measure: bool = True,
) -> dict[str, Any]:
    """Say what a run of a recipe would take, whether it fits, and what to change where it does not; train nothing.

    The data go the way that a run takes, and are kept for it. The network is built, and makes steps on copies with few rows, the memory of
    which is followed operation by operation: what a batch of any size takes is known from that, and a device that is not there can be
    planned for.

    Args:
        recipe: A recipe's file, its content as a mapping, or a run's folder.
        overrides: Each `PATH=VALUE`.
        out: The folder that holds the runs, and beside them the prepared data.
        devices: How many devices there are; those of this machine where not given.
        device_memory: The memory of a device that is not this machine's, such as `"16GB"`; what it takes is reckoned here.
        measure: Whether steps are timed, and what they hold beside tensors is looked at; else the time is reckoned from what the network
            asks for, and the rest is assumed.

    Returns:
        Plain JSON values: `fits` and `sentence`; `parameters`, `memory` (by part, with `peak_bytes` and `budget_bytes`), `batch`, `time`,
        `devices`, `disk`; `changes`, where it does not fit; and `choices`, what was decided on the way.

    Raises:
        RecipeError: The recipe is wrong.
        DataError: The data cannot be used.
        InputError: An argument is wrong.

    Example:
        ```python
        planned = deepseek.plan("churn.yaml", device_memory="16GB")
        print(planned["sentence"])
        ```
    """
    if devices is not None and (not isinstance(devices, int) or devices < 1):
        raise InputError(f"devices is {devices!r}", hint="give a whole number, at least 1")
    memory = None if device_memory is None else _memory_of(device_memory)
    baseline = loaded_bytes()
    _, checked = open_recipe(recipe, overrides)
    dataset = make_dataset(checked, StageCache(Path(out) / CACHE))
    for warning in dataset.warnings:
        progress.warn(warning)
    looked = max(resident_bytes() - baseline, 0)
    alone = checked.with_decisions({f"train.{key}": (value, "devices are planned, and not used") for key, value in _ALONE.items()})
    resolved, choices = resolve(alone, dataset)
    subject = subject_of(resolved, dataset, communication=checked.train.communication)
    with freed_memory_kept():  # as while training
        planned = _Plan(subject, checked, held=(baseline, looked), devices=devices, device_memory=memory, measure=measure)
    return {**planned.to_json(), "disk": _disk(subject, dataset, planned.memory, Path(out)), "choices": choices_json(choices)}


class _Plan:
    """The numbers of a plan, each from those before it."""

    def __init__(
        self,
        subject: Subject,
        recipe: Recipe,
        *,
        held: tuple[int, int],
        devices: int | None,
        device_memory: int | None,
        measure: bool,
    ) -> None:
        self.subject, settings = subject, subject.settings
        self.emulated = device_memory is not None
        self.device = torch.device("cuda") if device_memory is not None else pick_device(recipe.train.device)
        self.free = free_bytes(self.device) if device_memory is None else device_memory
        baseline, self.looked = held
        self.baseline = baseline if self.device.type == "cpu" else 0
        self.budget = int((1 - FREE_SHARE) * self.free) - self.baseline
        self.precision = "fp32" if settings.precision == AUTO else settings.precision
        there = torch.accelerator.device_count() if torch.accelerator.is_available() else 1
        wanted: Any = recipe.train.devices if recipe.cluster is None else recipe.cluster.workers
        self.most_devices = devices or (there if wanted == AUTO else max(there, wanted))
        self.asked = self.most_devices if wanted == AUTO else wanted
        where = None if self.emulated else self.device
        self.memory: RunMemory = memory_of(subject, device=where, precision=self.precision, looked=self.looked, observe=measure)
        self.rows, self.accumulate = subject.batch_size, min(settings.accumulate, subject.batch_size)
        self.recomputed = settings.activation_checkpointing if isinstance(settings.activation_checkpointing, int) else 0
        self.share = self._shared(recipe.train.strategy)
        self.within = self.share.within(self.budget, baseline=self.baseline)
        if settings.activation_checkpointing == AUTO and self.share.peak(self.rows, accumulate=self.accumulate) > self.within:
            self.memory, self.recomputed = with_recomputation(subject, self.memory)  # as the run will, where memory is short
            self.share = replace(self.share, memory=self.memory)
        self.peak = self.share.peak(self.rows, accumulate=self.accumulate)
        self.most = self.share.most(self.within, accumulate=self.accumulate, most=MOST_ROWS)
        here = Share(self.memory).most(free_bytes(CPU) // 2, most=MOST_ROWS)  # steps are timed on this machine, whatever is planned for
        known = CPU if self.emulated else self.device
        self.time: RunTime = time_of(subject, device=known, measure=measure, precision=self.precision, most_rows=here)
        self.scaling: list[Scaling] = scalings(
            self.time, self.share, most=self.most_devices, budget=self.budget, accumulate=self.accumulate, baseline=self.baseline
        )
        self.chosen = worthwhile(self.scaling)
        self.speedup = next((one.speedup for one in self.scaling if one.devices == self.asked), 1.0)
        self.fits = self.peak <= self.within
        self.changes: list[Remedy] = []
        if not self.fits:
            self.changes = remedies(subject, self.share, budget=self.within, devices=self.most_devices)

    def _shared(self, strategy: Any) -> Share:
        """Return what each of the devices holds that the recipe asks for."""
        memory = self.memory
        whole = memory.weights + memory.gradients + memory.update.state_bytes
        free = self.free // self.asked if memory.host else self.free
        kind = "fsdp" if strategy == AUTO and whole > MEMORY_SHARE * free else split_spec("strategy", strategy)[0]
        return Share(memory, self.asked, sharded=self.asked > 1 and kind == "fsdp")

    def to_json(self) -> dict[str, Any]:
        model, time = self.subject.model, self.time
        spec: Any = self.subject.recipe.model
        return {
            "name": self.subject.recipe.name,
            "task": self.subject.dataset.task["type"],
            "model": spec["type"],
            "rows": len(self.subject.rows),
            "fits": self.fits,
            "sentence": self.sentence(),
            "parameters": {"all": parameter_count(model), "trained": parameter_count(model, trainable=True)},
            "memory": self._memory(),
            "batch": {
                "size": self.rows,
                "accumulate": self.accumulate,
                "most": self.most,
                "why": f"{self.most:,} rows are the most that leave a fifth of the memory free" if self.most else "not even one row fits",
            },
            "time": {
                "how": time.how,
                "steps": time.steps,
                "step_s": time.training_s / max(time.steps, 1) / self.speedup,
                "training_s": time.training_s / self.speedup,
                "validation_s": time.validation_s / self.speedup,
                "seconds": time.seconds / self.speedup,
            },
            "devices": {
                "there": self.most_devices,
                "asked": self.asked,
                "recommended": self.chosen.devices,
                "strategy": "one device" if self.chosen.devices == 1 else "a share of each batch on each device",
                "why": self._why(),
                "scaling": [{**one.to_json(), "peak_bytes": self.baseline + one.peak_bytes} for one in self.scaling],
            },
            "changes": [{**one.to_json(), "peak_bytes": self.baseline + one.peak_bytes} for one in self.changes],
        }

    def sentence(self) -> str:
        """Return in one sentence whether it fits."""
        where = f"a device of {binary_size(self.free)}" if self.emulated else f"the {binary_size(self.free)} that are free"
        taken = f"{binary_size(self.baseline + self.peak)} at the highest moment"
        if self.asked > 1:
            taken += f" on each of {self.asked} devices"
            where = f"its share of {where}" if self.memory.host else where
        if self.fits:
            return f"it fits: {taken}, within four fifths of {where}"
        good = next((change for change in self.changes if change.fits), None)
        help_ = f"take {good.change} ({binary_size(self.baseline + good.peak_bytes)})" if good else "no single change suffices"
        return f"it does not fit: {taken}, and four fifths of {where} are {binary_size(self.within + self.baseline)}; {help_}"

    def _memory(self) -> dict[str, Any]:
        moments = self.share.moments(self.rows, accumulate=self.accumulate)
        parts = self.share.parts(self.rows, accumulate=self.accumulate)
        with_baseline = {"baseline": self.baseline, **parts} if self.baseline else parts
        return {
            "device": str(self.device.type),
            "emulated": self.emulated,
            "free_bytes": self.free,
            "budget_bytes": self.within + self.baseline,
            "peak_bytes": self.baseline + self.peak,
            "above_baseline_bytes": self.peak,
            "highest": max(moments, key=lambda name: moments[name]),
            "moments": moments,
            "precision": self.precision,
            "activation_checkpointing": self.recomputed,
            "overhead": {"factor": self.memory.overhead.factor, "how": self.memory.overhead.how},
            "parts": as_parts(with_baseline),
        }

    def _why(self) -> str:
        if self.chosen.devices == 1 and len(self.scaling) == 1:
            return "there is one device" if self.most_devices == 1 else "a batch has too few rows to be shared"
        if self.chosen.devices == 1:
            if not any(one.fits for one in self.scaling):
                return "one device first: memory suffices on none of them"
            two = self.scaling[1]
            if two.efficiency >= LEAST_EFFICIENCY:
                return (
                    f"one device first: each of {two.devices} would hold {binary_size(self.baseline + two.peak_bytes)}, which is too much"
                )
            return f"one device first: {two.devices} would be used to {two.efficiency:.0%}, and {LEAST_EFFICIENCY:.0%} is the least"
        said = f"{self.chosen.devices} devices are {self.chosen.speedup:.1f} times as fast as one"
        return said if self.scaling[0].fits else f"{said}, and one has not the memory"


def _memory_of(given: str | int) -> int:
    """Return the memory of a device that is not here, in bytes.

    Raises:
        InputError: It is none: a number without its unit, most likely.
    """
    try:
        size = parse_size_bytes(given)
    except InputError as error:
        raise InputError(f"device_memory: {error.message}", hint="say for example 16GB") from None
    if size < _WITHOUT_UNIT_BYTES and not str(given).rstrip().endswith("B"):
        raise InputError(f"device_memory: {size:,} bytes are no device's memory; given: {given!r}", hint="say the unit, for example 16GB")
    return size


def _disk(subject: Subject, dataset: Dataset, memory: RunMemory, out: Path) -> dict[str, Any]:
    prepared = folder_bytes(dataset.folder) + sum(folder_bytes(Path(folder)) for folder in dataset.landed.values())
    best = memory.weights if "validation" in subject.splits else 0
    checkpoint = memory.weights + memory.update.state_bytes + memory.average + best
    checkpoints = (subject.settings.keep + 1) * checkpoint  # a new one is whole before the oldest goes
    free = shutil.disk_usage(out if out.exists() else Path()).free
    return {
        "prepared_bytes": prepared,
        "checkpoints_bytes": checkpoints,
        "bundle_bytes": memory.weights,
        "free_bytes": free,
        "fits": checkpoints + memory.weights <= free,
    }
