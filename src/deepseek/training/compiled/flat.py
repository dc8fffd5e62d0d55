"""The parameters of an optimizer's group and its state, each in one piece of memory.

Adam over one long tensor is one kernel, however many layers a network has.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepseek.errors import InputError


class FlatGroup:
    """One group of an Adam or AdamW optimizer, whose tensors become views of four long ones.

    The parameters stay the same objects and the optimizer's state keeps its keys: checkpoints, averages and the ordinary step see nothing
    of it. What gives a parameter other memory (`module.to` of another device or type, `load_state_dict(assign=True)`) cuts the ties.

    Args:
        optimizer: `torch.optim.Adam` or `AdamW`.
        group: One of its `param_groups`.

    Attributes:
        parameters: Those of the group.
        weights: All of them, `[n]`.
        mean: Their running means of the gradient, `[n]`.
        square: Their running means of its square, `[n]`.
        steps: The steps made, one entry a parameter.
        peak: The group's learning rate before any schedule.
        beta1: Decay of `mean`.
        beta2: Decay of `square`.
        eps: Keeps the division finite.
        decay: The group's weight decay.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, group: dict[str, object]) -> None:
        self._optimizer = optimizer
        self.parameters: list[nn.Parameter] = group["params"]  # type: ignore[assignment]
        self.peak, self.eps, self.decay = (float(str(group[key])) for key in ("lr", "eps", "weight_decay"))
        self.beta1, self.beta2 = (float(beta) for beta in group["betas"])  # type: ignore[attr-defined]
        self._sizes = [parameter.numel() for parameter in self.parameters]
        self._shapes = [parameter.shape for parameter in self.parameters]
        self._channels_last = [_is_channels_last(parameter) for parameter in self.parameters]
        self.weights, self.mean, self.square = (self.parameters[0].new_zeros(sum(self._sizes)).detach() for _ in range(3))
        self.steps = torch.zeros(len(self.parameters), device=self.weights.device)
        for parameter, view in zip(self.parameters, self.views(self.weights), strict=True):
            view.copy_(parameter.detach())
            parameter.data = view

    def views(self, flat: Tensor) -> list[Tensor]:
        """Cut a long tensor into the parameters' shapes and memory layouts, without copying."""
        pieces = torch.split(flat, self._sizes)
        return [
            piece.view(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2) if channels_last else piece.view(shape)
            for piece, shape, channels_last in zip(pieces, self._shapes, self._channels_last, strict=True)
        ]

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """Join tensors of the parameters' shapes in the order of their memory: what `views` undoes."""
        return torch.cat(
            [
                (tensor.permute(0, 2, 3, 1) if channels_last else tensor).reshape(-1)
                for tensor, channels_last in zip(tensors, self._channels_last, strict=True)
            ]
        )

    @torch.no_grad()
    def adopt_state(self) -> int:
        """Take the optimizer's state into the long tensors, zeros where there is none yet, and return the number of steps made.

        Raises:
            InputError: The parameters have not all made the same number of steps.
        """
        state = self._optimizer.state
        columns = zip(self.parameters, self.views(self.mean), self.views(self.square), self.steps.unbind(), strict=True)
        for parameter, mean, square, step in columns:
            views = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
            before = state.get(parameter) or {}
            for key, view in views.items():
                view.copy_(before[key]) if key in before else view.zero_()
            state[parameter] = views
        made = {int(count) for count in self.steps.tolist()}
        if len(made) > 1:
            raise InputError(
                f"compile: step needs parameters that are all used; they have made {sorted(made)} steps", hint="take compile: model or off"
            )
        return made.pop()


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
