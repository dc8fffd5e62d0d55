"""One optimizer step with the bookkeeping done once instead of every time.

`Optimizer.step` walks over all parameters in Python, looks up their state, groups them by device and opens a profiler range before it
calls the one fused kernel that does the work: on a small network that walk costs more than the kernel. `AdamUpdate` keeps the lists and
calls the kernel. The state stays in the optimizer, so that saving, loading and falling back to `step` are what they always were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Limits:
    """What the gradients' history says of a step.

    Attributes:
        refused: A float32 scalar on the device, 1 where the step must not be made; nothing where it may.
        divisors: What each group's gradients are to be divided by, a scalar on the device each; nothing where they are as they are to be.
    """

    refused: Tensor | None = None
    divisors: Sequence[Tensor] | None = None


NO_LIMITS = Limits()
"""The step is made with the gradients as they are."""
_ONE = torch.ones((), dtype=torch.float32, device="cpu")  # whatever is the default when this is loaded
_Lists = tuple[dict[str, Any], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]


class Update:
    """Makes an optimizer's step from the gradients in `parameter.grad`.

    Args:
        optimizer: Any optimizer of `torch.optim`.

    Attributes:
        divides: Whether it divides gradients itself, on its way.
    """

    divides = False

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    @torch.no_grad()
    def __call__(self, limits: Limits = NO_LIMITS) -> None:
        """Make the step.

        Args:
            limits: Whether it must not be made, which this waits for, and what gradients are to be divided by.
        """
        for group, divisor in zip(self.optimizer.param_groups, limits.divisors or (), strict=False):
            torch._foreach_div_([parameter.grad for parameter in group["params"] if parameter.grad is not None], divisor)
        if limits.refused is None or not bool(limits.refused):
            self.optimizer.step()

    def reset(self) -> None:
        """Forget what was kept; to be called when the optimizer's state was replaced."""


class AdamUpdate(Update):
    """The fused kernel of Adam or AdamW over lists kept from step to step.

    Args:
        optimizer: `torch.optim.Adam` or `AdamW`, built with `fused=True`.
    """

    def __init__(self, optimizer: torch.optim.Adam) -> None:
        super().__init__(optimizer)
        self.divides = True
        self._kernel = torch._fused_adamw_ if isinstance(optimizer, torch.optim.AdamW) else torch._fused_adam_
        self._groups: list[_Lists] = []

    def reset(self) -> None:
        """Forget the lists."""
        self._groups = []

    @torch.no_grad()
    def __call__(self, limits: Limits = NO_LIMITS) -> None:
        """Make the step; parameters without a gradient are left alone, as `Optimizer.step` leaves them.

        Args:
            limits: As of `Update`; the kernel looks at both on the device, and nothing waits.
        """
        gathered = [[parameter.grad for parameter in lists[1]] for lists in self._groups]
        if not gathered or any(grad is None for grads in gathered for grad in grads):
            super().__call__(limits)
            self._groups = self._gather()
            return
        refused = limits.refused
        divisors: Sequence[Tensor | None] = limits.divisors or [None] * len(gathered)
        for (group, parameters, means, squares, steps), grads, divisor in zip(self._groups, gathered, divisors, strict=True):
            _count(steps)
            self._kernel(
                parameters,
                grads,  # type: ignore[arg-type]
                means,
                squares,
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
                grad_scale=divisor,
                found_inf=refused,
            )
            if refused is not None:
                torch._foreach_sub_(steps, [refused] * len(steps))

    def _gather(self) -> list[_Lists]:
        state = self.optimizer.state
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        if not all(state.get(parameter) for parameter in parameters):
            return []  # a parameter has not met a gradient yet: its state is not there

        def column(group: dict[str, Any], key: str) -> list[Tensor]:
            return [state[parameter][key] for parameter in group["params"]]

        return [
            (group, group["params"], column(group, "exp_avg"), column(group, "exp_avg_sq"), column(group, "step"))
            for group in self.optimizer.param_groups
        ]


def _count(steps: list[Tensor]) -> None:
    if steps[0].is_cpu:  # a plain 1 would be made a tensor of once for each of them
        torch._foreach_add_(steps, _ONE, alpha=1.0)
    else:
        torch._foreach_add_(steps, 1)


def make_update(optimizer: torch.optim.Optimizer) -> Update:
    """Return the fastest exact way of making this optimizer's step."""
    if type(optimizer) not in {torch.optim.Adam, torch.optim.AdamW} or not isinstance(optimizer, torch.optim.Adam):
        return Update(optimizer)
    plain = all(group["params"] and group["fused"] and not group["amsgrad"] and not group["maximize"] for group in optimizer.param_groups)
    one_device = len({parameter.device for group in optimizer.param_groups for parameter in group["params"]}) == 1
    one_dtype = len({parameter.dtype for group in optimizer.param_groups for parameter in group["params"]}) == 1
    return AdamUpdate(optimizer) if plain and one_device and one_dtype else Update(optimizer)
