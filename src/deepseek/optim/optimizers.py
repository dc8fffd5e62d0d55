"""The optimizers that a recipe can name, each a thin description of the one in `torch.optim`.

Where PyTorch has a fused kernel for the device it is used: one pass over memory instead of a dozen small operations a tensor. Elsewhere the
multi-tensor ("foreach") form is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch import nn

from deepseek.errors import InputError

Rate = Annotated[float, Gt(0)]
Decay = Annotated[float, Ge(0)]
Beta = Annotated[float, Ge(0), Lt(1)]
ParameterGroup = dict[str, Any]

_FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})


class OptimizerSpec(ABC):
    """What an optimizer is to be; `build` makes it for the parameters of a model.

    Args:
        learning_rate: The peak learning rate; the schedule multiplies it.
        weight_decay: How strongly weights are drawn to zero each step; biases, norms and embeddings are left out.
    """

    def __init__(self, *, learning_rate: Rate = 1e-3, weight_decay: Decay = 0.0) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

    @abstractmethod
    def build(self, groups: Sequence[ParameterGroup], /) -> torch.optim.Optimizer:
        """Return the optimizer over groups of parameters, as `decay_groups` returns them."""

    def _common(self, groups: Sequence[ParameterGroup], *, fusible: bool = False) -> dict[str, Any]:
        fused = fusible and _can_fuse(parameter for group in groups for parameter in group["params"])
        kind = {"fused": True} if fused else {"foreach": True}
        scaled = [{**group, "lr": self.learning_rate * group.get("learning_rate_factor", 1.0)} for group in groups]
        return {"params": scaled, "lr": self.learning_rate, "weight_decay": self.weight_decay, **kind}


class Adam(OptimizerSpec):
    """Adam: steps scaled by running moments of the gradient (Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980).

    Args:
        learning_rate: The peak learning rate.
        weight_decay: L2 added to the gradient; prefer `adamw` for decay.
        betas: Decay of the running mean and of the running square, each in [0, 1).
        eps: Keeps the division finite.
    """

    def __init__(
        self, *, learning_rate: Rate = 1e-3, weight_decay: Decay = 0.0, betas: tuple[Beta, Beta] = (0.9, 0.999), eps: Rate = 1e-8
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay)
        self.betas, self.eps = betas, eps

    def build(self, groups: Sequence[ParameterGroup], /) -> torch.optim.Optimizer:
        """Return `torch.optim.Adam`."""
        return torch.optim.Adam(betas=self.betas, eps=self.eps, **self._common(groups, fusible=True))


class AdamW(OptimizerSpec):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter, 2019, https://arxiv.org/abs/1711.05101).

    Args:
        learning_rate: The peak learning rate.
        weight_decay: Fraction of a weight taken away a step, times the learning rate.
        betas: Decay of the running mean and of the running square, each in [0, 1).
        eps: Keeps the division finite.
    """

    def __init__(
        self, *, learning_rate: Rate = 1e-3, weight_decay: Decay = 1e-2, betas: tuple[Beta, Beta] = (0.9, 0.999), eps: Rate = 1e-8
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay)
        self.betas, self.eps = betas, eps

    def build(self, groups: Sequence[ParameterGroup], /) -> torch.optim.Optimizer:
        """Return `torch.optim.AdamW`."""
        return torch.optim.AdamW(betas=self.betas, eps=self.eps, **self._common(groups, fusible=True))


class Sgd(OptimizerSpec):
    """Stochastic gradient descent with momentum (Sutskever et al., 2013, https://proceedings.mlr.press/v28/sutskever13.html).

    Args:
        learning_rate: The peak learning rate.
        weight_decay: L2 added to the gradient.
        momentum: How much of the last step is kept, in [0, 1).
        nesterov: Look ahead along the momentum; without momentum it changes nothing.
    """

    def __init__(self, *, learning_rate: Rate = 0.1, weight_decay: Decay = 0.0, momentum: Beta = 0.9, nesterov: bool = True) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay)
        self.momentum, self.nesterov = momentum, nesterov

    def build(self, groups: Sequence[ParameterGroup], /) -> torch.optim.Optimizer:
        """Return `torch.optim.SGD`."""
        nesterov = self.nesterov and self.momentum > 0
        return torch.optim.SGD(momentum=self.momentum, nesterov=nesterov, **self._common(groups, fusible=True))


class RmsProp(OptimizerSpec):
    """RMSprop: steps scaled by the running root mean square of the gradient (Tieleman and Hinton, 2012, Coursera lecture 6.5).

    Args:
        learning_rate: The peak learning rate.
        weight_decay: L2 added to the gradient.
        alpha: Decay of the running square, in [0, 1).
        momentum: How much of the last step is kept, in [0, 1).
        eps: Keeps the division finite.
    """

    def __init__(
        self, *, learning_rate: Rate = 1e-3, weight_decay: Decay = 0.0, alpha: Beta = 0.99, momentum: Beta = 0.0, eps: Rate = 1e-8
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay)
        self.alpha, self.momentum, self.eps = alpha, momentum, eps

    def build(self, groups: Sequence[ParameterGroup], /) -> torch.optim.Optimizer:
        """Return `torch.optim.RMSprop`."""
        return torch.optim.RMSprop(alpha=self.alpha, momentum=self.momentum, eps=self.eps, **self._common(groups))


class Adagrad(OptimizerSpec):
    """Adagrad: steps scaled by all past squares (Duchi, Hazan and Singer, 2011, https://jmlr.org/papers/v12/duchi11a.html).

    Args:
        learning_rate: The peak learning rate.
        weight_decay: L2 added to the gradient.
        eps: Keeps the division finite.
    """

    def __init__(self, *, learning_rate: Rate = 1e-2, weight_decay: Decay = 0.0, eps: Rate = 1e-10) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay)
        self.eps = eps

    def build(self, groups: Sequence[ParameterGroup], /) -> torch.optim.Optimizer:
        """Return `torch.optim.Adagrad`."""
        return torch.optim.Adagrad(eps=self.eps, **self._common(groups))


class NAdam(OptimizerSpec):
    """Adam with Nesterov's look-ahead, decay apart from the gradient (Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ).

    Args:
        learning_rate: The peak learning rate.
        weight_decay: Fraction of a weight taken away a step, times the learning rate.
        betas: Decay of the running mean and of the running square, each in [0, 1).
        eps: Keeps the division finite.
    """

    def __init__(
        self, *, learning_rate: Rate = 2e-3, weight_decay: Decay = 0.0, betas: tuple[Beta, Beta] = (0.9, 0.999), eps: Rate = 1e-8
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay)
        self.betas, self.eps = betas, eps

    def build(self, groups: Sequence[ParameterGroup], /) -> torch.optim.Optimizer:
        """Return `torch.optim.NAdam`."""
        return torch.optim.NAdam(betas=self.betas, eps=self.eps, decoupled_weight_decay=True, **self._common(groups))


class RAdam(OptimizerSpec):
    """Adam that rectifies its first steps, decay apart from the gradient (Liu et al., 2020, https://arxiv.org/abs/1908.03265).

    Args:
        learning_rate: The peak learning rate.
        weight_decay: Fraction of a weight taken away a step, times the learning rate.
        betas: Decay of the running mean and of the running square, each in [0, 1).
        eps: Keeps the division finite.
    """

    def __init__(
        self, *, learning_rate: Rate = 1e-3, weight_decay: Decay = 0.0, betas: tuple[Beta, Beta] = (0.9, 0.999), eps: Rate = 1e-8
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay)
        self.betas, self.eps = betas, eps

    def build(self, groups: Sequence[ParameterGroup], /) -> torch.optim.Optimizer:
        """Return `torch.optim.RAdam`."""
        return torch.optim.RAdam(betas=self.betas, eps=self.eps, decoupled_weight_decay=True, **self._common(groups))


def decay_groups(model: nn.Module, factors: Mapping[nn.Parameter, float] | None = None) -> list[ParameterGroup]:
    """Return the trainable parameters in groups: weights, and those that are not decayed; each again by its share of the learning rate.

    Not decayed are biases of any shape, gains and other vectors, everything in normalisations and embeddings (drawing those to zero removes
    scale that the network needs), and what a module names in an attribute `no_decay`, a collection of its own parameters' names. A module
    with an attribute `learning_rate_factor` has the rates of all parameters below it multiplied by that.

    Raises:
        InputError: The model has nothing to train.
    """
    own = _learning_rate_factors(model)
    given = factors or {}
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        whole = isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or "norm" in type(module).__name__.lower()
        named = getattr(module, "no_decay", ())
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            decayed = not (whole or parameter.ndim <= 1 or name == "bias" or name in named)
            groups.setdefault((decayed, own.get(parameter, 1.0) * given.get(parameter, 1.0)), []).append(parameter)
    if not seen:
        raise InputError("the model has no parameter to train", hint="leave at least one with requires_grad=True")
    return [
        # `regularise` also tells penalties and norm limits where they apply
        {"params": members, "regularise": decayed, "learning_rate_factor": factor, **({} if decayed else {"weight_decay": 0.0})}
        for (decayed, factor), members in sorted(groups.items(), key=lambda item: (not item[0][0], item[0][1]))
    ]


def _learning_rate_factors(model: nn.Module) -> dict[nn.Parameter, float]:
    factors: dict[nn.Parameter, float] = {}
    for module in model.modules():
        if (factor := getattr(module, "learning_rate_factor", 1.0)) != 1.0:
            for parameter in module.parameters():
                factors[parameter] = factors.get(parameter, 1.0) * factor
    return factors


def _can_fuse(parameters: Iterable[torch.Tensor]) -> bool:
    return all(parameter.device.type in _FUSED_DEVICES and parameter.is_floating_point() for parameter in parameters)
