"""The whole training step as one compiled graph: forward, loss, gradients, clipping and optimizer.

What a small network loses in Python and kernel launches, the compiler gains back. Weights and optimizer state are changed in place and stay
the optimizer's own, so that checkpoints, validation and the uncompiled step for an odd last batch see the same tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from deepseek.data.batch import Batch
from deepseek.errors import InputError
from deepseek.training.step import TINY, Loss, TrainingStep

_Shapes = tuple[tuple[str, torch.Size, torch.dtype], ...]
_Columns = list[list[Tensor]]


class CompiledStep(TrainingStep):
    """A training step that is compiled for the first batch's shape; batches of another shape take the ordinary way.

    It reckons the same formulas in another order of roundings, so that its weights are those of the ordinary step to float32's precision,
    not bit for bit.

    Args:
        model: The network itself, called with a batch's inputs.
        loss: As for `TrainingStep`.
        optimizer: `Adam` or `AdamW` of `torch.optim`.
        options: The keyword arguments of `TrainingStep`.

    Raises:
        InputError: The optimizer, the precision or a rule cannot be compiled into the graph, or there are several ranks.
    """

    def __init__(self, model: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer, **options: Any) -> None:
        super().__init__(model, loss, optimizer, **options)
        self._refuse()
        self._model, self._loss = model, loss
        self._names = {parameter: name for name, parameter in model.named_parameters()}
        self._rates = [torch.tensor(peak, device=self.parameters[0].device) for peak in self._peaks]
        self._shapes: _Shapes | None = None
        self._compiled = torch.compile(self._whole, fullgraph=True, dynamic=False)

    def __call__(self, batch: Batch) -> None:
        """Make one optimizer step."""
        shapes = _shapes_of(batch)
        known = self._shapes is None or self._shapes == shapes
        if self.micro_batches > 1 or not known or not all(self.optimizer.state.get(parameter) for parameter in self.parameters):
            super().__call__(batch)  # the first step also makes the optimizer's state
            return
        self._shapes = shapes
        columns = [[self.optimizer.state[parameter][key] for parameter in self.parameters] for key in ("exp_avg", "exp_avg_sq", "step")]
        self._count(*self._compiled(batch.inputs, batch.targets, batch.weight, columns))
        if self.average is not None:
            self.average.update()

    def set_factor(self, factor: float) -> None:
        """Set every learning rate to a fraction of its peak; in tensors, so that a change compiles nothing anew."""
        if factor != self._factor:
            super().set_factor(factor)
            for rate, peak in zip(self._rates, self._peaks, strict=True):
                rate.fill_(peak * factor)

    def _whole(
        self, inputs: dict[str, Tensor], targets: dict[str, Tensor], weight: Tensor | None, columns: _Columns
    ) -> tuple[Tensor, Tensor]:
        trained = {self._names[parameter]: parameter.detach() for parameter in self.parameters}

        def mean_loss(weights: dict[str, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            out = functional_call(self._model, weights, (inputs,))
            numerator, denominator = self._loss(out, Batch(inputs, targets, weight))
            return numerator / denominator.clamp_min(TINY), (numerator, denominator)

        grads, (_, (numerator, denominator)) = grad_and_value(mean_loss, has_aux=True)(trained)
        with torch.no_grad():
            gradients = list(grads.values())
            if self.rules.clip_norm is not None:
                norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
                gradients = [gradient * (self.rules.clip_norm / (norm + 1e-6)).clamp(max=1.0) for gradient in gradients]
            self._adam(list(trained.values()), gradients, columns)
        return numerator, denominator

    def _adam(self, weights: list[Tensor], gradients: list[Tensor], columns: _Columns) -> None:
        place = 0
        decoupled = isinstance(self.optimizer, torch.optim.AdamW)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            (beta1, beta2), eps, decay = group["betas"], group["eps"], group["weight_decay"]
            for _ in group["params"]:
                weight, gradient = weights[place], gradients[place]
                mean, square, step = (column[place] for column in columns)
                place += 1
                step.add_(1)
                if decay and decoupled:
                    weight.mul_(1 - rate * decay)
                elif decay:
                    gradient = gradient + decay * weight
                mean.lerp_(gradient, 1 - beta1)
                square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                root = (square / (1 - beta2**step)).sqrt() + eps
                weight.sub_(rate / (1 - beta1**step) * (mean / root))

    def _refuse(self) -> None:
        rules = self.rules
        why = {
            f"the optimizer {type(self.optimizer).__name__}": type(self.optimizer) not in {torch.optim.Adam, torch.optim.AdamW},
            f"precision {self.precision.name}": self.precision.name != "fp32",
            "several ranks": self.sync is not None,
            "clip_value, l1, l2, max_norm": bool(rules.clip_value or rules.l1 or rules.l2 or rules.max_norm),
            "on_nonfinite: skip": rules.on_nonfinite == "skip",
        }
        if refused := [name for name, given in why.items() if given]:
            raise InputError(f"compile: step does not go with {', '.join(refused)}", hint="take compile: model, or fp32 Adam or AdamW")


def _shapes_of(batch: Batch) -> _Shapes:
    named = [*batch.inputs.items(), *batch.targets.items()]
    return tuple((name, tensor.shape, tensor.dtype) for name, tensor in named)
