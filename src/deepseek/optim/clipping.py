"""Gradient clipping over lists of tensors, without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def clip_norm_(grads: Sequence[Tensor], max_norm: float, *, norm: Tensor | None = None) -> Tensor:
    """Scale gradients in place so that their joint Euclidean norm is at most `max_norm` (Pascanu et al., 2013, https://arxiv.org/abs/1211.5063).

    Args:
        grads: The gradients, on one device.
        max_norm: The largest norm allowed, over 0.
        norm: Their joint norm where it is known, or that of more gradients than these; reckoned where not given.

    Returns:
        The norm before clipping, a scalar that stays on the device.
    """
    norm = global_norm(grads) if norm is None else norm
    torch._foreach_mul_(list(grads), (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


@torch.no_grad()
def clip_value_(grads: Sequence[Tensor], max_value: float) -> None:
    """Limit each gradient element in place to `[-max_value, max_value]`."""
    tensors = list(grads)
    torch._foreach_clamp_min_(tensors, -max_value)
    torch._foreach_clamp_max_(tensors, max_value)


@torch.no_grad()
def global_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the joint Euclidean norm of tensors on one device, a scalar there."""
    norm: Tensor = torch.nn.utils.get_total_norm(list(tensors), foreach=True)
    return norm
