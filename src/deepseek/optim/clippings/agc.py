"""Clipping of each unit's gradient by the size of its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepseek.optim.clippings.base import Clipping, Limit
from deepseek.optim.gradients import Gradients, Trained


class AgcClipping(Clipping):
    """Adaptive gradient clipping: the gradient of a unit's weights has at most a given share of their norm.

    A unit is what leads into one output: a row of a linear map, a filter of a convolution; a vector, such as a bias, is one unit. In
    general it is an entry of a parameter's first dimension: where that counts the members of an ensemble, a member's map is one unit. How
    much a step may change weights then goes by how large they are, which made networks without batch normalisation trainable in large
    batches. The paper leaves the last, linear layer out; here what is left out is said by the beginning of parameters' names.

    It has no history and no warm-up. Parameters of one shape are reckoned together: one pass for each shape, not for each parameter.

    Source: Brock, De, Smith and Simonyan, "High-Performance Large-Scale Image Recognition Without Normalization", ICML 2021,
    https://arxiv.org/abs/2102.06171.

    Args:
        share: The largest norm of a unit's gradient, as a share of its weights' norm.
        eps: Weights count as having at least this norm, so that those that begin at zero can leave it.
        exclude: How the names of parameters begin that are left alone.
    """

    def __init__(
        self,
        parameters: Sequence[Trained],
        /,
        *,
        share: Limit = 0.01,
        eps: Limit = 1e-3,
        exclude: list[str] = ["head."],  # noqa: B006 - a recipe's default is read, never written to
    ) -> None:
        super().__init__(parameters)
        self.share, self.eps = share, eps
        alike: dict[tuple[object, ...], list[nn.Parameter]] = {}
        for one in parameters:
            if not one.name.startswith(tuple(exclude)):
                alike.setdefault((one.parameter.shape, one.parameter.dtype), []).append(one.parameter)
        self._alike = [*alike.values()]

    def limit(self, gradients: Gradients) -> None:
        """Scale each unit's gradient."""
        gradients.settle()
        least = []
        for parameters in self._alike:
            used = [parameter for parameter in parameters if parameter.grad is not None]
            if not used:
                continue
            own = [parameter.grad for parameter in used if parameter.grad is not None]
            limits = self.share * _unit_norms(used).clamp_min(self.eps)
            factors = (limits / _unit_norms(own).clamp_min(1e-6)).clamp(max=1.0)
            torch._foreach_mul_(own, factors.unbind())
            least.append(factors.min())
        if least:
            self.state["limited"] += torch.stack(least).min() < 1.0
        gradients.changed()


def _unit_norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the units' norms of tensors of one shape, `[n, rows, 1, …]`."""
    stacked = tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack([*tensors])
    if stacked.ndim < 2:
        return stacked.abs()
    within = tuple(range(2, stacked.ndim)) or (1,)
    norms: Tensor = torch.linalg.vector_norm(stacked, dim=within, keepdim=True)
    return norms
