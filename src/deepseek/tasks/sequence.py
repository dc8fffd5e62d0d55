"""What tasks that say something of each element of a sequence share: the sum of losses over what is real.

Legend of shapes: `b` rows · `n` elements · `o` outputs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from deepseek.data.batch import Batch
from deepseek.data.padding import mask_name
from deepseek.models.base import Features
from deepseek.tasks.base import TARGET, Task
from deepseek.tasks.metrics import Metric


def real_elements(batch: Batch) -> Tensor:
    """Return which elements of a batch's target are real, bool `[b, n]`; all where nothing says otherwise."""
    target = batch.targets[TARGET]
    return batch.targets.get(mask_name(TARGET), torch.ones(target.shape[:2], dtype=torch.bool, device=target.device))


class SequenceTask(Task):
    """Takes `[b, n, w]` and a target for each element, `[b, n]` with a mask of what is real.

    The loss is the mean over all elements, so that a long row weighs as much as its elements do.
    """

    takes: Features = "sequence"  # type: ignore[misc]

    @abstractmethod
    def element_losses(self, out: Tensor, target: Tensor) -> Tensor:
        """Return one loss an element, float32 `[b, n]`, for outputs `[b, n, o]` and targets `[b, n]`."""

    def row_losses(self, out: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of each row's elements, `[b]`, all of them taken for real."""
        return self.element_losses(out, target).mean(dim=1)

    def loss(self, out: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the elements' losses and the sum of their weights, two scalars."""
        target, weight = batch.targets[TARGET], real_elements(batch).float()
        if batch.weight is not None:
            weight = weight * batch.weight[:, None]
        return (self.element_losses(out, target) * weight).sum(), weight.sum()


class SequenceMetric(Metric):
    """A number over elements: what stands behind a row's end counts for nothing."""

    @torch.no_grad()
    def update(self, decoded: Mapping[str, Tensor], batch: Batch) -> None:
        """Add a batch; its weights count."""
        target, real = batch.targets[TARGET], real_elements(batch)
        self.state = {name: tensor.to(target.device) for name, tensor in self.state.items()}
        weight = real.double() if batch.weight is None else real * batch.weight.double()[:, None]
        broken = torch.stack([answer.isnan().flatten(2).any(dim=2) for answer in decoded.values() if answer.is_floating_point()]).any(dim=0)
        self.observe(decoded, target, weight.masked_fill(broken & real, torch.nan))

    @abstractmethod
    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add elements to `state`: `weight` is float64 `[b, n]`, 0 behind each row's end, NaN where an answer is."""
