"""Penalties and limits on weights, applied to gradients and weights directly instead of through the loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


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
