"""TPUs and other devices of XLA, through torch_xla: what differs there from devices that PyTorch drives itself.

Nothing is computed when an operation is called: it is noted, and a step's operations are compiled and started together when the step is
said to be over. Written against the documented interface of torch_xla 2.8; it has not been run on a TPU.
"""

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec
from typing import Any

import torch

from deepseek.errors import InputError

LIBRARY = "torch_xla"
KIND = "xla"
"""What PyTorch calls the devices; recipes may say `tpu`."""


def is_there() -> bool:
    """Say whether torch_xla is installed and has a device: a TPU, or what `PJRT_DEVICE` names but a processor."""
    if find_spec(LIBRARY) is None:
        return False
    return bool(os.environ.get("PJRT_DEVICE", "") not in {"", "CPU"} or _library("runtime").device_type() == "TPU")


def device() -> torch.device:
    """Return this process's device.

    Raises:
        InputError: torch_xla is not installed.
    """
    if find_spec(LIBRARY) is None:
        raise InputError("device is tpu, and torch_xla is not installed", hint="pip install 'torch_xla[tpu]', in the version of this torch")
    found: torch.device = _library().device()
    return found


def end_step() -> None:
    """Compile, where that has not been done for a step of the same shapes, and start what has been noted since the last time."""
    _library().sync()


def synchronize() -> None:
    """Wait until all that was noted is done."""
    _library().sync(wait=True)


def seed(number: int, at: torch.device) -> None:
    """Seed a device's generator."""
    _library().manual_seed(number, at)


def generator_state(at: torch.device) -> int:
    """Return the state of a device's generator."""
    state: int = _library("core.xla_model").get_rng_state(str(at))
    return state


def set_generator_state(state: int, at: torch.device) -> None:
    """Take up what `generator_state` returned."""
    _library("core.xla_model").set_rng_state(state, str(at))


def memory(at: torch.device) -> tuple[int, int]:
    """Return the bytes that are free, and all of them."""
    told = _library("core.xla_model").get_memory_info(str(at))
    return int(told["bytes_limit"]) - int(told["bytes_used"]), int(told["bytes_limit"])


def prepare_collectives() -> None:
    """Make the backend `xla` known to `torch.distributed`: importing its module does."""
    _library("distributed.xla_backend")


def _library(module: str = "") -> Any:
    return importlib.import_module(f"{LIBRARY}.{module}" if module else LIBRARY)
