"""The contract of rates by layer: how large a layer's step is beside the one that the optimizer would make."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deepseek.optim.gradients import Gradients, Parts, Remembering, Trained


class LayerRates(Remembering):
    """Gives each layer a learning rate, and a weight decay, of its own, over any optimizer.

    A layer is a module with parameters of its own. Once the optimizer has made its step, a layer's weights are put where its step, times
    the layer's factor, would have led: `w + f (w' - w)`. As learning rate and weight decay are both factors of the step, this multiplies
    both, whatever the optimizer is; its own state stays as it was. A factor of 1 changes nothing, bit for bit.

    Args:
        parameters: What is trained.
    """

    def __init__(self, parameters: Sequence[Trained], /) -> None:
        super().__init__(Parts(parameters, "layer"))
        self.state["factors"] = torch.ones(len(self.parts.names), device=self.parts.device)
        self._weights: list[Tensor] = [one.parameter for one in parameters]
        self._held: list[Tensor] = []
        self._shares: list[Tensor] | list[float] = []
        self._stale = True
        self._plain = True

    @torch.no_grad()
    def __call__(self, gradients: Gradients) -> None:
        """Look at the gradients of a step, before anything limits them.

        Args:
            gradients: The gradients, gathered.
        """
        if self.measure(gradients):
            self._stale, self._plain = True, False
        self.made += 1

    @abstractmethod
    def measure(self, gradients: Gradients) -> bool:
        """Set `state["factors"]`, `[k]`, in place, and return whether they may have changed; `made` counts the steps before this one."""

    @torch.no_grad()
    def hold(self) -> None:
        """Remember the weights before the optimizer's step."""
        if self._plain:
            return
        if self._held:
            torch._foreach_copy_(self._held, self._weights)
        else:
            self._held = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def scale(self) -> None:
        """Put each layer's weights where its own rate leads to."""
        if self._plain:
            return
        if self._stale:
            shares = self.parts.spread(1.0 - self.state["factors"]).expand(len(self._weights))
            self._shares = shares.tolist() if shares.device.type == "cpu" else [*shares.unbind()]  # kernels are faster with plain numbers
            self._stale = False
        torch._foreach_lerp_(self._weights, self._held, self._shares)

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `state_dict` returned.

        Raises:
            CheckpointError: It is of another kind, or of other layers.
        """
        super().load_state_dict(tensors)
        self._stale, self._plain = True, False

    def go_on(self, before: Remembering) -> None:
        """Take up the factors and the history of layers that were trained before."""
        super().go_on(before)
        self._stale, self._plain = True, False

    def rates(self) -> dict[str, float]:
        """Return each layer's factor by the layer's name. Waits for the device."""
        return dict(zip(self.parts.names, self.state["factors"].tolist(), strict=True))
