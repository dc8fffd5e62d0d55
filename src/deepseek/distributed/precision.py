"""Number formats of a training step, as small objects of which the plain one does nothing.

Weights and optimizer state stay float32 in all of them; autocast runs matrix products in the shorter format (Micikevicius et al., 2018,
https://arxiv.org/abs/1710.03740).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor

from deepseek.distributed.xla import KIND
from deepseek.errors import InputError, UnknownNameError

PrecisionName = Literal["fp32", "bf16", "fp16"]
_FIRST_SCALE = 2.0**10
"""Lower than torch's own: gradients of micro-batches are of sums over rows, not of means, and overflow sooner. It grows by itself."""

P = ParamSpec("P")
R = TypeVar("R")


class Precision:
    """float32 throughout: every method passes on what it was given.

    Args:
        device: Where the step runs.
    """

    name: PrecisionName = "fp32"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wrap(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return the forward function as it runs in this format."""
        return function

    def scale(self, seed: Tensor) -> Tensor:
        """Return the gradient that the backward pass starts from."""
        return seed

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Undo `scale` in the gradients."""

    def update(self, step: Callable[[], None], optimizer: torch.optim.Optimizer, refused: Tensor | None = None) -> None:
        """Make the optimizer's step, unless the gradients forbid it.

        Args:
            step: Makes it, and looks at `refused` itself.
            optimizer: The optimizer.
            refused: A scalar on the device, over 0 where the step must not be made.
        """
        step()

    def leave_out(self) -> None:
        """Take note that the step whose gradients were unscaled is not made."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must survive a resume, as plain JSON values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""


class Bf16(Precision):
    """bfloat16 under autocast: the range of float32, so nothing needs scaling."""

    name: PrecisionName = "bf16"
    dtype = torch.bfloat16

    def wrap(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return the function under autocast."""
        device, dtype = self.device.type, self.dtype

        def cast(*args: P.args, **kwargs: P.kwargs) -> R:
            with torch.autocast(device, dtype):
                return function(*args, **kwargs)

        return cast


class Fp16(Bf16):
    """float16 under autocast, with a loss scale that grows until gradients overflow and halves when they do."""

    name: PrecisionName = "fp16"
    dtype = torch.float16

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._scaler = torch.amp.GradScaler(device.type, init_scale=_FIRST_SCALE)
        self.scale(torch.ones((), device=device))  # which makes it: a rank whose share of the first batch is empty scales nothing

    def scale(self, seed: Tensor) -> Tensor:
        """Return the seed times the loss scale."""
        return self._scaler.scale(seed)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the loss scale and note whether any has overflowed."""
        self._scaler.unscale_(optimizer)

    def update(self, step: Callable[[], None], optimizer: torch.optim.Optimizer, refused: Tensor | None = None) -> None:
        """Make the step unless a gradient has overflowed or it is refused, which waits for the device; then adapt the scale."""
        if refused is None or not bool(refused):
            self._scaler.step(optimizer)
        self._scaler.update()

    def leave_out(self) -> None:
        """Adapt the scale: a gradient that has overflowed is why, more often than not."""
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the loss scale and its growth count."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._scaler.load_state_dict(state)


_PRECISIONS: dict[str, type[Precision]] = {"fp32": Precision, "bf16": Bf16, "fp16": Fp16}


def make_precision(name: str, device: torch.device) -> Precision:
    """Return the precision of a name on a device.

    Raises:
        UnknownNameError: It is none of `fp32`, `bf16`, `fp16`.
        InputError: It is `fp16` and the device a TPU, which has none.
    """
    if name not in _PRECISIONS:
        raise UnknownNameError("precision", name, _PRECISIONS)
    if name == "fp16" and device.type == KIND:
        raise InputError("precision is fp16, and TPUs compute in bfloat16", hint="say precision: bf16, or auto")
    return _PRECISIONS[name](device)
