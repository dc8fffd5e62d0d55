"""What a training step does to its tensors, as one function that a tracer can follow: a list of tensors in, the same tensors changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

from deepseek.data.batch import Batch
from deepseek.errors import InputError
from deepseek.optim import WeightAverage
from deepseek.training.compiled.flat import FlatGroup
from deepseek.training.step import TINY, Loss

SCALARS = 3
"""Numbers that a group takes for a step: step size, inverse root of the second bias correction, decay."""


@dataclass
class StepGraph:
    """Forward, loss, gradients, clipping, Adam and averaging, for as many batches as there are rows of scalars.

    Args:
        model: The network, called with a batch's inputs.
        loss: As for `TrainingStep`.
        groups: The trained parameters and the optimizer's state.
        sums: Running sums of the loss's numerators and denominators, which are added to.
        average: A running average of the weights to be kept up.
        clip_norm: The largest joint norm of the gradients.
        decoupled: Whether weight decay is apart from the gradient (AdamW).

    Attributes:
        state: Every tensor that a step reads or changes, beside its batch.
    """

    model: nn.Module
    loss: Loss
    groups: Sequence[FlatGroup]
    sums: tuple[Tensor, Tensor]
    average: WeightAverage | None
    clip_norm: float | None
    decoupled: bool
    state: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        self._names = [names[parameter] for group in self.groups for parameter in group.parameters]
        fixed = {name: parameter.detach() for name, parameter in self.model.named_parameters() if not parameter.requires_grad}
        fixed |= dict(self.model.named_buffers())
        averages = self.average.average if self.average else {}
        self._fixed, self._averaged = list(fixed), list(averages)
        long = [tensor for group in self.groups for tensor in (group.weights, group.mean, group.square, group.steps)]
        self.state = [*long, *fixed.values(), *averages.values(), *self.sums]

    def run(self, tensors: Sequence[Tensor], like: Batch) -> None:
        """Make the steps.

        Args:
            tensors: `state`, the scalars `[steps, SCALARS * groups + 1]`, and the tensors of every batch.
            like: A batch that says what those are.
        """
        state, (scalars, *data) = tensors[: len(self.state)], tensors[len(self.state) :]
        width = len(tensors_of(like))
        for place, row in enumerate(scalars.unbind()):
            self._step(state, row, _batch_of(like, data[place * width : (place + 1) * width]))

    def _step(self, state: Sequence[Tensor], row: Tensor, batch: Batch) -> None:
        rest = iter(state)
        long = [[next(rest) for _ in range(4)] for _ in self.groups]
        fixed = {name: next(rest) for name in self._fixed}
        averages = {name: next(rest) for name in self._averaged}
        gradients, numerator, denominator = self._gradients(self._views(long), fixed, batch)
        with torch.no_grad():
            self._update(long, gradients, row)
            next(rest).add_(numerator)
            next(rest).add_(denominator)
            live = fixed | self._views(long)
            for name, average in averages.items():
                average.lerp_(live[name], row[-1])

    def _views(self, long: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
        cut = [view for group, tensors in zip(self.groups, long, strict=True) for view in group.views(tensors[0])]
        return dict(zip(self._names, cut, strict=True))

    def _gradients(self, weights: dict[str, Tensor], fixed: dict[str, Tensor], batch: Batch) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the gradients of the mean loss, numerator and denominator."""
        # not torch.func.grad, which forbids the in-place changes of batch normalisation
        with torch.enable_grad():
            leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
            numerator, denominator = self.loss(functional_call(self.model, leaves | fixed, (batch.inputs,)), batch)
            seed = (1.0 / denominator.detach().clamp_min(TINY)).to(numerator.dtype)
            found = torch.autograd.grad(numerator, list(leaves.values()), seed, allow_unused=True)
        unused = [name for name, gradient in zip(leaves, found, strict=True) if gradient is None]
        if unused:
            raise InputError(f"compile: step, and the loss does not depend on {', '.join(unused)}", hint="take compile: model or off")
        return list(found), numerator.detach(), denominator.detach()

    def _update(self, long: Sequence[Sequence[Tensor]], gradients: Sequence[Tensor], row: Tensor) -> None:
        """Clip, then Adam: one pass over each group's long tensors."""
        rest = iter(gradients)
        flats = [group.flatten([next(rest) for _ in group.parameters]) for group in self.groups]
        if self.clip_norm is not None:
            norm = torch.stack([flat.square().sum() for flat in flats]).sum().sqrt()
            scale = (self.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            flats = [flat * scale for flat in flats]
        for place, (group, flat, (weights, mean, square, steps)) in enumerate(zip(self.groups, flats, long, strict=True)):
            size, root, decay = row[SCALARS * place : SCALARS * (place + 1)].unbind()
            gradient = flat + decay * weights if group.decay and not self.decoupled else flat
            mean.lerp_(gradient, 1.0 - group.beta1)
            square.mul_(group.beta2).addcmul_(gradient, gradient, value=1.0 - group.beta2)
            change = size * (mean / (square.sqrt() * root + group.eps))
            weights.copy_((weights * decay if group.decay and self.decoupled else weights) - change)
            steps.add_(1.0)


def tensors_of(batch: Batch) -> list[Tensor]:
    """Return all that a step reads of a batch."""
    tensors = [*batch.inputs.values(), *batch.targets.values()]
    return tensors if batch.weight is None else [*tensors, batch.weight]


def _batch_of(like: Batch, tensors: Sequence[Tensor]) -> Batch:
    rest = iter(tensors)
    inputs = {name: next(rest) for name in like.inputs}
    targets = {name: next(rest) for name in like.targets}
    return Batch(inputs, targets, None if like.weight is None else next(rest))
