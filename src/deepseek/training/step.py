"""The training step: what happens to the weights for one batch, and nothing else.

Numerators are sent backward, the gradients are divided once by the global denominator, then penalised, clipped and used. That makes a batch
in micro-batches, or spread over ranks, the same step as the batch in one piece, whatever the rows weigh.

Nothing here looks at a value: no `.item()`, no logging, no Python per row. On a small network the overhead of this file is what a step
costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from deepseek.data.batch import Batch
from deepseek.distributed.devices import has_float64, step_end
from deepseek.distributed.precision import Precision
from deepseek.distributed.sync import GradientSync
from deepseek.optim import Adaptive, Told, WeightAverage, clip_norm_, clip_value_, limit_norm_, make_update, penalise_
from deepseek.optim.in_place import global_norm
from deepseek.optim.update import NO_LIMITS

Forward = Callable[[Mapping[str, Tensor]], Tensor]
Loss = Callable[[Tensor, Batch], tuple[Tensor, Tensor]]
Sums = Sequence[tuple[Tensor, Tensor]]

TINY = torch.finfo(torch.float32).tiny  # under a sum of weights that is 0: such a batch changes nothing


@dataclass(frozen=True, kw_only=True)
class StepRules:
    """What is done to gradients and weights in a step, beside the optimizer; see `TrainSettings` for the meanings."""

    clip_norm: float | None = None
    clip_value: float | None = None
    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None
    on_nonfinite: Literal["raise", "skip"] = "raise"

    @property
    def touch_gradients(self) -> bool:
        """Whether any rule changes the gradients."""
        return bool(self.clip_norm or self.clip_value or self.l1 or self.l2)


class TrainingStep:
    """Makes optimizer steps on any module, for any loss that comes as numerator and denominator.

    Args:
        forward: The network, or a compiled form of it: a batch's inputs to raw outputs.
        loss: Raw outputs and batch to the weighted sum of the rows' losses and the sum of their weights.
        optimizer: Over parameters of the network; its learning rates now are the peaks that `set_factor` scales.
        precision: The number format; float32 where not given.
        rules: What is done beside the optimizer's step.
        sync: Sums gradients over the ranks, where there are several.
        average: A running average of the weights to be kept up.
        adaptive: Clippings and rates by layer that go by the history of gradients.

    Attributes:
        micro_batches: Into how many pieces a batch is cut.
        least_rows: The fewest rows of a piece; 2 where the network has batch statistics.
        repeatable: Whether the step under way has changed nothing yet, so that after a failure it can begin anew: until its backward pass
            is through.
        numerator: Sum of the numerators since it was last set to zero, float64 where the device has it.
        denominator: Sum of the denominators.
        skipped: Steps not made because a gradient was NaN or infinite.
        steps_per_call: The most batches that `many` is worth giving at once.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> def squared(out, batch):
        ...     return (out[:, 0] - batch.targets["y"]).square().sum(), torch.tensor(float(len(batch)))
        >>> step = TrainingStep(lambda inputs: net(inputs["x"]), squared, torch.optim.SGD(net.parameters(), lr=0.1))
        >>> step(Batch({"x": torch.ones(4, 2)}, {"y": torch.zeros(4)}))
    """

    steps_per_call = 1

    def __init__(  # noqa: PLR0913 (what a step is made of, each by its name)
        self,
        forward: Forward,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        *,
        precision: Precision | None = None,
        rules: StepRules | None = None,
        sync: GradientSync | None = None,
        average: WeightAverage | None = None,
        adaptive: Adaptive | None = None,
    ) -> None:
        self.optimizer, self.average, self.sync, self.adaptive = optimizer, average, sync, adaptive
        self.rules = rules or StepRules()
        self.micro_batches = self.least_rows = 1
        self.skipped = 0
        self.repeatable = True
        self.parameters: list[nn.Parameter] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        device = self.parameters[0].device
        self.precision = precision or Precision(device)
        self.update = make_update(optimizer)
        self._loss_of = self.precision.wrap(lambda batch: loss(forward(batch.inputs), batch))
        regular = [group for group in optimizer.param_groups if group.get("regularise", True)]
        self._matrices = [parameter for group in regular for parameter in group["params"] if parameter.ndim > 1]
        self._peaks = [float(group["lr"]) for group in optimizer.param_groups]
        self._factor = 1.0
        self._queued = step_end(device)
        wide = torch.float64 if has_float64(device.type) else torch.float32
        self.numerator, self.denominator = torch.zeros(2, dtype=wide, device=device).unbind()
        self._one = torch.ones((), device=device)
        whole = all(group["params"] for group in optimizer.param_groups)
        if sync is not None:
            sync.revocable = self.rules.on_nonfinite == "skip" or (adaptive is not None and any(each.refuses for each in adaptive.clip))
        self._by_group = self.update.divides and whole and self.precision.name != "fp16"  # its scaler calls the optimizer

    def set_factor(self, factor: float) -> None:
        """Set every learning rate to a fraction of its peak."""
        if factor != self._factor:
            self._factor = factor
            for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
                group["lr"] = peak * factor

    def reset(self) -> None:
        """Forget what was kept of the optimizer's state; to be called when that was replaced."""
        self.update.reset()

    def go_on(self, before: TrainingStep) -> None:
        """Take up the sums, the count of skipped steps and the micro-batches of the step that this one takes the place of."""
        self.numerator, self.denominator = before.numerator, before.denominator
        self.skipped, self.micro_batches = before.skipped, before.micro_batches
        if self.adaptive is not None and before.adaptive is not None:
            self.adaptive.go_on(before.adaptive)

    def told(self) -> Told:
        """Return what clippings and rates by layer have to tell; waits for the device."""
        return Told() if self.adaptive is None else self.adaptive.told()

    def __call__(self, batch: Batch) -> None:
        """Make one optimizer step.

        Args:
            batch: This rank's rows of the global batch, on the parameters' device; with several ranks it may have none.
        """
        self.repeatable = True
        whole = self.sync is None and self.micro_batches == 1
        sums = self._backward_whole(batch) if whole else self._backward_parts(batch)
        refused = self._apply()
        for numerator, denominator in sums:
            self._count(numerator, denominator, refused)
        self._queued()

    def many(self, batches: Sequence[Batch], begin: Callable[[int], None]) -> None:
        """Make a step with each of several batches.

        Args:
            batches: One a step.
            begin: Called with each step's place among them, before it: sets the factor and seeds.
        """
        for place, batch in enumerate(batches):
            begin(place)
            self(batch)

    def _backward_whole(self, batch: Batch) -> Sums:
        """Divide at the root of the graph: the same gradients, without a pass over them."""
        for parameter in self.parameters:
            parameter.grad = None
        numerator, denominator = self._loss_of(batch)
        torch.autograd.backward(numerator, self.precision.scale(self._one / denominator.detach().clamp_min(TINY)))
        self.repeatable = False
        return [(numerator.detach(), denominator.detach())]

    def _backward_parts(self, batch: Batch) -> Sums:
        self._clear()
        rows = len(batch)
        parts: Sequence[Batch] = batch.split(-(-rows // self.micro_batches), least=self.least_rows) if rows else ()
        total = torch.zeros_like(self._one)
        sums: list[tuple[Tensor, Tensor]] = []
        for index, part in enumerate(parts):
            numerator, denominator = self._loss_of(part)
            total += denominator.detach()
            if self.sync is not None and index == len(parts) - 1:
                self.sync.arm(total)
            torch.autograd.backward(numerator, self.precision.scale(self._one))
            sums.append((numerator.detach(), denominator.detach()))
        self.repeatable = False
        if self.sync is not None:
            if not parts:
                self.sync.arm(total)
            total = self.sync.finish()
        torch._foreach_div_(self._gradients(self.parameters), total.clamp_min(TINY))
        return sums

    def _clear(self) -> None:
        if self.sync is not None:
            self.sync.zero()
        else:
            for parameter in self.parameters:
                parameter.grad = None

    @torch.no_grad()
    def _apply(self) -> Tensor | None:
        """Penalise, clip, step and constrain; return what says on the device whether the step was refused, where it may be."""
        adaptive, limits = self.adaptive, NO_LIMITS
        self.precision.unscale(self.optimizer)
        if adaptive is not None:
            adaptive.look()
        norm = self._shape_gradients() if self.rules.touch_gradients else None
        if adaptive is not None:
            limits = adaptive.limit(by_group=self._by_group)
        if self.rules.on_nonfinite == "skip" and not self._is_finite(norm):
            self.skipped += 1
            self.precision.leave_out()
            if self.sync is not None:
                self.sync.take_back()
            return limits.refused
        if self.sync is not None and limits.refused is not None:
            self.sync.take_back(limits.refused)
        if adaptive is not None:
            adaptive.hold()
        self.precision.update(partial(self.update, limits), self.optimizer, limits.refused)
        if adaptive is not None:
            adaptive.scale()
        if self.rules.max_norm is not None:
            limit_norm_(self._matrices, self.rules.max_norm)
        if self.average is not None:
            self.average.update(limits.refused)
        return limits.refused

    def _shape_gradients(self) -> Tensor | None:
        """Apply the rules to the gradients; return their norm before clipping where it was reckoned."""
        rules, gradients = self.rules, self._gradients(self.parameters)
        if rules.l1 or rules.l2:
            used = [parameter for parameter in self._matrices if parameter.grad is not None]
            penalise_(used, self._gradients(used), l1=rules.l1, l2=rules.l2)
        if rules.clip_value is not None:
            clip_value_(gradients, rules.clip_value)
        return clip_norm_(gradients, rules.clip_norm, norm=self._norm()) if rules.clip_norm is not None else None

    def _norm(self) -> Tensor:
        """Return the joint norm of all gradients of the model."""
        return global_norm(self._gradients(self.parameters))

    def _is_finite(self, norm: Tensor | None) -> bool:
        found = self._norm() if norm is None else norm
        return bool(torch.isfinite(found))  # waits for the device: the price of skipping

    def _gradients(self, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    def _count(self, numerator: Tensor, denominator: Tensor, refused: Tensor | None = None) -> None:
        numerator, denominator = numerator.detach(), denominator.detach()
        if self.rules.on_nonfinite == "skip":  # a skipped step must not poison the running loss either
            fine = numerator.isfinite()
            numerator, denominator = numerator.where(fine, 0.0), denominator.where(fine, 0.0)
        if refused is not None:
            made = refused == 0.0
            numerator, denominator = numerator.where(made, 0.0), denominator.where(made, 0.0)
        self.numerator += numerator
        self.denominator += denominator
