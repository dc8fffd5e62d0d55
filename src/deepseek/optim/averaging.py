"""A running average of the weights, which is validated and kept instead of the last weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a model's floating-point parameters and buffers.

    The decay grows as `(1 + t) / (10 + t)` up to its final value, so that the first, random weights are soon forgotten and a short run is
    averaged as well as a long one. (Polyak and Juditsky, 1992; Tarvainen and Valpola, 2017, https://arxiv.org/abs/1703.01780.)

    Args:
        model: The model; its state is copied now.
        decay: The final decay, in (0, 1): 0.999 averages over about a thousand steps.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        named = {name: tensor for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_floating_point()}
        self._live = list(named.values())  # not detached: an alias would not follow a parameter that is given other memory
        self.average = {name: tensor.detach().clone() for name, tensor in named.items()}
        self._averages = list(self.average.values())

    @torch.no_grad()
    def update(self, refused: Tensor | None = None) -> None:
        """Take in the weights as they are now.

        Args:
            refused: A scalar on the device, 1 where the step was not made: the average then stays as it is, though the step counts for the
                growth of the decay.
        """
        share = self.advance(1)[0]
        if refused is None:
            torch._foreach_lerp_(self._averages, self._live, share)
            return
        away = torch._foreach_sub(self._live, self._averages)  # noqa: SLF001 (there is no public name)
        torch._foreach_mul_(away, (1.0 - refused) * share)
        torch._foreach_add_(self._averages, away)

    def advance(self, count: int) -> list[float]:
        """Count updates that are made elsewhere, and return the share of the live weights in each."""
        made = range(self.updates + 1, self.updates + count + 1)
        self.updates += count
        return [1.0 - min(self.decay, (1 + update) / (10 + update)) for update in made]

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Put the average into the model for the length of a block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Put the average into the model for good."""
        torch._foreach_copy_(self._live, self._averages)

    @torch.no_grad()
    def load(self, average: Mapping[str, Tensor], *, updates: int) -> None:
        """Take up an average that was saved."""
        self.updates = updates
        torch._foreach_copy_(self._averages, [average[name].to(tensor.device) for name, tensor in self.average.items()])

    @torch.no_grad()
    def _swap(self) -> None:
        kept = [tensor.clone() for tensor in self._live]
        torch._foreach_copy_(self._live, self._averages)
        torch._foreach_copy_(self._averages, kept)
