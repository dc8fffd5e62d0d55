"""Devices by name, their memory, and how many threads a process may use."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from deepseek.errors import InputError
from deepseek.processors import usable_cores


@dataclass(frozen=True)
class Memory:
    """A device's memory.

    Attributes:
        free_bytes: What can still be taken.
        total_bytes: All of it.
    """

    free_bytes: int
    total_bytes: int


def pick_device(name: str = "auto", *, index: int = 0) -> torch.device:
    """Return a device: the machine's accelerator where there is one, or the one that is named.

    Args:
        name: `auto`, `cpu`, or what torch's accelerator API calls it: `cuda`, `mps`, `xpu`, `npu` …, with or without `:INDEX`.
        index: Which of several accelerators, for a name without an index.

    Raises:
        InputError: The machine has no such device.
    """
    present = torch.accelerator.current_accelerator(check_available=True)
    if name == "cpu" or (name == "auto" and present is None):
        return torch.device("cpu")
    kind, _, given = name.partition(":")
    allowed = ["auto", "cpu", *([present.type] if present else [])]
    if present is None or kind not in {"auto", present.type} or not (given or "0").isdigit():
        raise InputError(f"this machine has no device {name!r}", hint=f"allowed here: {', '.join(allowed)}")
    number = int(given) if given else index
    if number >= torch.accelerator.device_count():
        raise InputError(f"this machine has no device {kind}:{number}", hint=f"it has {torch.accelerator.device_count()} of them")
    return torch.device(present.type, number)


def device_memory(device: torch.device) -> Memory:
    """Return how much memory a device has and how much of it is free."""
    if device.type == "cpu":
        page = os.sysconf("SC_PAGE_SIZE")
        return Memory(page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES"))
    free, total = torch.accelerator.get_memory_info(device)
    return Memory(free, total)


def limit_threads(ranks: int) -> int:
    """Share the processor among the ranks on this machine; return how many threads this process now uses.

    Without it every rank starts as many threads as there are cores, and they fight for them.
    """
    threads = max(usable_cores() // ranks, 1)
    torch.set_num_threads(threads)
    return threads


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all it was given; nothing on a processor, which has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error is a device's or the processor's refusal to give more memory."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
