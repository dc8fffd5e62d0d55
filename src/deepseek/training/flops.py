"""What a network asks for in floating-point operations, and what devices can do of them at most."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deepseek.data.batch import Batch

BACKWARD = 3
"""Forward and backward pass together, in forward passes: the gradients of inputs and of weights are a product each for each forward."""
PEAK_TFLOPS = {
    "H200": {"fp32": 66.9, "bf16": 989.4, "fp16": 989.4},
    "H100 PCIe": {"fp32": 51.2, "bf16": 756.0, "fp16": 756.0},
    "H100": {"fp32": 66.9, "bf16": 989.4, "fp16": 989.4},
    "A100": {"fp32": 19.5, "bf16": 312.0, "fp16": 312.0},
    "V100": {"fp32": 15.7, "fp16": 125.0},
    "L40S": {"fp32": 91.6, "bf16": 362.0, "fp16": 362.0},
    "L4": {"fp32": 30.3, "bf16": 121.0, "fp16": 121.0},
    "A10": {"fp32": 31.2, "bf16": 125.0, "fp16": 125.0},
    "T4": {"fp32": 8.1, "fp16": 65.0},
}
"""What makers say of dense arithmetic, in 10¹² operations a second, by a part of the device's name (the longest that fits) and format."""


@torch.no_grad()
def forward_flops(model: nn.Module, batch: Batch) -> int:
    """Return the floating-point operations of a forward pass over a batch, as PyTorch counts them: to multiply and to add are two.

    Args:
        model: Called with the batch's inputs; each of its modules is left in the mode it was in, as a frozen normalisation has its own.
        batch: On the model's device.
    """
    with _measured(model), FlopCounterMode(display=False) as counter:
        model(batch.inputs)
    return int(counter.get_total_flops())


def step_flops(model: nn.Module, batch: Batch) -> int:
    """Return the floating-point operations of a forward and a backward pass over a batch.

    Where everything is trained that is three forward passes, as it is usually reckoned. What is frozen has no gradient of its weights, and
    below the first part that is trained none at all: there the backward pass is made and counted.

    Args:
        model: As for `forward_flops`.
        batch: On the model's device.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    most = BACKWARD * forward_flops(model, batch)
    if not trained or len(trained) == len([*model.parameters()]):
        return most
    with _measured(model), torch.enable_grad(), FlopCounterMode(display=False) as counter:
        try:
            torch.autograd.grad(model(batch.inputs).float().sum(), trained, allow_unused=True)
        except RuntimeError:  # a kernel that goes backwards only while training: no less than this is known
            return most
    return min(int(counter.get_total_flops()), most)


@contextmanager
def _measured(model: nn.Module) -> Iterator[None]:
    """Keep a model's modules from drawing and from gathering statistics; each is left in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def known_peak(device: torch.device, precision: str) -> float | None:
    """Return what a device can do at most in a number format, in 10¹² operations a second; nothing where no table says.

    Args:
        device: The device.
        precision: `fp32`, `bf16` or `fp16`.
    """
    return None if device.type != "cuda" else peak_of(torch.cuda.get_device_name(device), precision)


def peak_of(name: str, precision: str) -> float | None:
    """Return the same by a device's name.

    Example:
        >>> peak_of("NVIDIA H100 80GB HBM3", "bf16")
        989.4
    """
    fitting = [known for known in PEAK_TFLOPS if all(part in name.split() for part in known.split())]
    fitting = fitting or [known for known in PEAK_TFLOPS if known in name.replace("-", " ").split()]
    return PEAK_TFLOPS[max(fitting, key=len)].get(precision) if fitting else None
