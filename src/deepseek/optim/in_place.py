"""What is done to gradients and weights in place, over lists of tensors and without waiting for the device: clipping, penalties, limits.

Penalties and limits on weights are applied to gradients and weights directly, instead of through the loss.
"""

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


@torch.no_grad()
def penalise_(weights: Sequence[Tensor], grads: Sequence[Tensor], *, l1: float = 0.0, l2: float = 0.0) -> None:
    """Add the gradient of `l1 * sum(|w|) + l2 / 2 * sum(w**2)` to the gradients in place.

    The same as adding the penalty to the loss, without a second graph; the reported loss stays the task's own.

    Args:
        weights: The penalised parameters.
        grads: Their gradients, in the same order.
        l1: Strength of the absolute penalty, at least 0.
        l2: Strength of the quadratic penalty, at least 0.
    """
    tensors, values = list(grads), list(weights)
    if l2:
        torch._foreach_add_(tensors, values, alpha=l2)
    if l1:
        torch._foreach_add_(tensors, [value.sign() for value in values], alpha=l1)


@torch.no_grad()
def limit_norm_(weights: Sequence[Tensor], max_norm: float) -> None:
    """Shrink in place every row of weights whose norm is over `max_norm` (Hinton et al., 2012, https://arxiv.org/abs/1207.0580).

    A row is what leads into one output: `w[i]`, whatever its shape.

    Args:
        weights: Parameters of two dimensions or more.
        max_norm: The largest norm of a row, over 0.
    """
    for weight in weights:
        torch.renorm(weight, p=2, dim=0, maxnorm=max_norm, out=weight)
