"""Devices by name, and all that differs between their kinds: memory, generators, the end of a step, collectives, number formats.

PyTorch's accelerator interface speaks for CUDA, ROCm, MPS and XPU, and for whatever its maker's library adds to PyTorch under a name of its
own (`npu`, `hpu` …); TPUs go through torch_xla (`deepseek.distributed.xla`).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
import torch.distributed as dist

from deepseek.distributed import xla
from deepseek.errors import InputError
from deepseek.processors import usable_cores

LIBRARIES = {"npu": "torch_npu", "hpu": "habana_frameworks.torch", "mlu": "torch_mlu", "musa": "torch_musa", "tpu": xla.LIBRARY}
"""What adds a kind of device to PyTorch, by the name that a recipe says."""
_BACKENDS = {"cpu": "gloo", "cuda": "nccl", xla.KIND: "xla"}


@dataclass(frozen=True)
class Memory:
    """A device's memory; both are 0 where the device does not tell.

    Attributes:
        free_bytes: What can still be taken.
        total_bytes: All of it.
    """

    free_bytes: int
    total_bytes: int


def pick_device(name: str = "auto", *, index: int = 0) -> torch.device:
    """Return a device: the machine's accelerator where there is one, or the one that is named.

    Args:
        name: `auto`, `cpu`, `tpu`, or what torch's accelerator API calls it: `cuda`, `mps`, `xpu`, `npu` …, with or without `:INDEX`.
        index: Which of several accelerators, for a name without an index.

    Raises:
        InputError: The machine has no such device.
    """
    kind, _, given = name.partition(":")
    if kind == "cpu":
        return torch.device("cpu")
    if kind in {"tpu", xla.KIND}:
        return _tpu(name, given, index)
    present = _accelerator(kind)
    if name == "auto" and present is None:
        return _tpu(name, given, index) if xla.is_there() else torch.device("cpu")
    allowed = ["auto", "cpu", *([present.type] if present else [])]
    if present is None or kind not in {"auto", present.type} or not (given or "0").isdigit():
        needs = f"; {kind} needs {LIBRARIES[kind]}" if kind in LIBRARIES and not has_library(kind) else ""
        raise InputError(f"this machine has no device {name!r}", hint=f"allowed here: {', '.join(allowed)}{needs}")
    number = int(given) if given else index
    if number >= torch.accelerator.device_count():
        raise InputError(f"this machine has no device {kind}:{number}", hint=f"it has {torch.accelerator.device_count()} of them")
    return torch.device(present.type, number)


def _accelerator(kind: str) -> torch.device | None:
    """Return the accelerator that PyTorch knows; the library that adds a kind is imported where PyTorch has not done that by itself."""
    present = torch.accelerator.current_accelerator(check_available=True)
    if present is None and kind in LIBRARIES and has_library(kind):
        importlib.import_module(LIBRARIES[kind])
        present = torch.accelerator.current_accelerator(check_available=True)
    return present


def _tpu(name: str, given: str, index: int) -> torch.device:
    if index or given not in {"", "0"}:
        raise InputError(
            f"device is {name!r} for process {index}, and a process here has one TPU",
            hint="say devices: 1, or start one process a TPU with torch_xla.launch or torchrun",
        )
    return xla.device()


def has_library(kind: str) -> bool:
    """Say whether the library is installed that adds a kind of device to PyTorch."""
    return find_spec(LIBRARIES[kind].partition(".")[0]) is not None


def count_devices() -> int:
    """Return how many processes this machine has an accelerator for: 0 where it has none, 1 of TPUs, as torch_xla starts the others."""
    if torch.accelerator.is_available():
        return torch.accelerator.device_count()
    return int(xla.is_there())


def list_devices() -> list[dict[str, Any]]:
    """Return the accelerators of this machine: `kind`, `index`, `name`, `free_bytes` and `total_bytes` of each."""
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if kind is None:
        devices = [xla.device()] if xla.is_there() else []
    else:
        devices = [torch.device(kind.type, index) for index in range(torch.accelerator.device_count())]
    found = []
    for device in devices:
        memory = device_memory(device)
        sizes = {"free_bytes": memory.free_bytes, "total_bytes": memory.total_bytes}
        found.append({"kind": device.type, "index": device.index or 0, "name": _name_of(device), **sizes})
    return found


def _name_of(device: torch.device) -> str:
    tell = getattr(None if device.type == xla.KIND else torch.get_device_module(device), "get_device_name", None)
    return str(device) if tell is None else str(tell(device.index or 0))


def device_memory(device: torch.device) -> Memory:
    """Return how much memory a device has and how much of it is free."""
    if device.type == "cpu":
        page = os.sysconf("SC_PAGE_SIZE")
        return Memory(page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES"))
    try:
        free, total = xla.memory(device) if device.type == xla.KIND else torch.accelerator.get_memory_info(device)
    except (RuntimeError, AttributeError):  # a library that has no such figures, and PyTorch's own MPS
        return Memory(0, 0)
    return Memory(free, total)


def peak_bytes(device: torch.device, work: Callable[[], object]) -> int | None:
    """Do some work and return the most memory that it took on an accelerator, beyond what was taken before.

    Args:
        device: An accelerator.
        work: What is done.

    Returns:
        Bytes, as the allocator took them from the device; nothing where the device keeps no such figure.
    """
    try:
        torch.accelerator.empty_cache()
        torch.accelerator.reset_peak_memory_stats(device)
        before = torch.accelerator.memory_allocated(device)
    except (RuntimeError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        return None
    work()
    synchronize(device)
    return torch.accelerator.max_memory_reserved(device) - before


def limit_threads(ranks: int) -> int:
    """Share the processor among the ranks on this machine; return how many threads this process now uses.

    Without it every rank starts as many threads as there are cores, and they fight for them.
    """
    threads = max(usable_cores() // ranks, 1)
    torch.set_num_threads(threads)
    return threads


def set_device(device: torch.device) -> None:
    """Make a device the one that this process means when it says no number."""
    if device.type not in {"cpu", xla.KIND}:
        torch.accelerator.set_device_index(device)


def step_end(device: torch.device) -> Callable[[], None]:
    """Return what is called when all of a step's work has been queued: on XLA that compiles and starts it, elsewhere it runs already."""
    return xla.end_step if device.type == xla.KIND else _nothing


def _nothing() -> None:
    """Do nothing."""


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all it was given; nothing on a processor, which has."""
    if device.type == xla.KIND:
        xla.synchronize()
    elif device.type != "cpu":
        torch.accelerator.synchronize(device)


def empty_cache(device: torch.device) -> None:
    """Give memory that an accelerator's allocator keeps for later back to the device."""
    if device.type not in {"cpu", xla.KIND}:
        torch.accelerator.empty_cache()


def seed_device(seed: int, device: torch.device) -> None:
    """Seed an accelerator's generator; nothing on a processor, whose generator is the process's."""
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == xla.KIND:
        xla.seed(seed, device)
    elif device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def generator_state(device: torch.device) -> Any:
    """Return the state of an accelerator's generator, to be given to `set_generator_state`."""
    if device.type == xla.KIND:
        return xla.generator_state(device)
    return torch.get_device_module(device).get_rng_state(*_place(device))


def set_generator_state(state: Any, device: torch.device) -> None:
    """Give an accelerator's generator the state that it had."""
    if device.type == xla.KIND:
        xla.set_generator_state(state, device)
    else:
        torch.get_device_module(device).set_rng_state(state, *_place(device))


def _place(device: torch.device) -> tuple[torch.device, ...]:
    return () if device.type == "mps" else (device,)


def collective_backend(device: torch.device) -> str:
    """Return the backend of `torch.distributed` for a kind of device: NCCL, Gloo, XLA's, or what the device's own library says."""
    if device.type == xla.KIND:
        xla.prepare_collectives()
    return _BACKENDS.get(device.type) or dist.get_default_backend_for_device(device)


@cache
def has_float64(kind: str) -> bool:
    """Say whether a kind of device computes in float64, by trying it where that is not known."""
    if kind in {"cpu", "cuda", "meta"}:
        return True
    try:
        return float(torch.ones(1, dtype=torch.float64, device=kind) + 1) == 2.0
    except (TypeError, RuntimeError):
        return False


def has_native_bf16(device: torch.device) -> bool:
    """Say whether a device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # not in torch 2.8
        return bool(flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("bf16"))
    return device.type in {"xpu", "npu", xla.KIND}


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error is a device's or the processor's refusal to give more memory."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in ("can't allocate memory", "RESOURCE_EXHAUSTED"))
    )
