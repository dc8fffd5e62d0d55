"""The rate by gradient variance as the articles write it, for loops of one's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deepseek.errors import InputError


class DynamicWeightScheduler:
    """Sets each group's learning rate to `base_lr * (1 + 0.5 (1 - exp(-0.1 var)))`, `var` being the variance of the group's gradient.

    To be called between `backward` and the optimizer's step. It is the formula as it stands, and of little effect: variances of gradients
    are mostly far below 1, and a variance of 0.001 makes the rate larger by a factor of 1.00005. `train.layer_rates` compares the variance
    with its own running mean instead.

    Args:
        base_lr: The learning rate that is scaled, over 0.
        layer_groups: The optimizer's `param_groups`, one a layer; each is a mapping with `params` and `lr`.
        scale_weight_decay: Whether a group's weight decay is scaled too, from what it is now.

    Attributes:
        scales: The factors of the last step, by group.

    Raises:
        InputError: A group is not one of an optimizer.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
        >>> optimizer = torch.optim.SGD([{"params": layer.parameters()} for layer in net], lr=0.1)
        >>> scheduler = DynamicWeightScheduler(0.1, optimizer.param_groups)
        >>> net(torch.ones(4, 2)).square().mean().backward()
        >>> scheduler.step()
        >>> optimizer.step()
    """

    def __init__(self, base_lr: float, layer_groups: Sequence[dict[str, Any]], *, scale_weight_decay: bool = False) -> None:
        if not base_lr > 0:
            raise InputError(f"base_lr is {base_lr}", hint="a learning rate is over 0")
        hint = "give optimizer.param_groups, of an optimizer that was built with a group for each layer"
        if not isinstance(layer_groups, Sequence):
            raise InputError(f"layer_groups is a {type(layer_groups).__name__}, and no list of groups", hint=hint)
        for group in layer_groups:
            if not isinstance(group, dict) or "params" not in group or "lr" not in group:
                raise InputError(f"layer_groups has {type(group).__name__}, which has no learning rate to set", hint=hint)
        self.base_lr, self.layer_groups = base_lr, layer_groups
        self.scales = [1.0] * len(layer_groups)
        self._decays = [float(group.get("weight_decay", 0.0)) for group in layer_groups] if scale_weight_decay else None

    @torch.no_grad()
    def step(self) -> None:
        """Set the rates by the gradients as they are now; a group without gradients gets the base rate."""
        self.scales = [1.0 + 0.5 * (1.0 - math.exp(-0.1 * variance)) for variance in self._variances()]
        for place, (group, scale) in enumerate(zip(self.layer_groups, self.scales, strict=True)):
            group["lr"] = self.base_lr * scale
            if self._decays is not None:
                group["weight_decay"] = self._decays[place] * scale

    def _variances(self) -> list[float]:
        found: list[Tensor | None] = []
        for group in self.layer_groups:
            gradients = [parameter.grad.flatten() for parameter in group["params"] if parameter.grad is not None]
            whole = torch.cat(gradients) if gradients else None
            found.append(None if whole is None or whole.numel() < 2 else whole.var())
        known = [value for value in found if value is not None]
        values = iter(torch.stack(known).tolist() if known else [])
        return [0.0 if value is None else next(values) for value in found]
