"""What a training step does by the history of its gradients: clippings, skipped steps, and rates by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from deepseek.errors import CheckpointError
from deepseek.optim.clippings.base import Clipping, LeftOut
from deepseek.optim.gradients import RESUME_HINT, Gradients, Remembering, Trained, trained_parameters
from deepseek.optim.layer_rates.base import LayerRates
from deepseek.optim.update import Limits
from deepseek.registry import Spec, family


@dataclass(frozen=True)
class Told:
    """What is told of it at an event.

    Attributes:
        clipped_share: In which share of the steps gradients were clipped; nothing where no history decides.
        left_out: What was not made; nothing where no step may be left out.
        layer_rates: Each layer's factor on its rate.
    """

    clipped_share: float | None = None
    left_out: LeftOut | None = None
    layer_rates: Mapping[str, float] = field(default_factory=dict)

    def left_out_since(self, before: Told) -> str:
        """Return a line for the log about steps that were left out since something was told; empty where there were none."""
        now, known = self.left_out, before.left_out.steps if before.left_out is not None else 0
        if now is None or now.steps <= known:
            return ""
        usual = f", usually {now.usual:.3g}" if math.isfinite(now.usual) else ""
        count = f"{now.steps - known} steps were" if now.steps - known > 1 else "a step was"
        return f"{count} left out, the last being step {now.last}: its gradient norm was {now.norm:.3g}{usual}"


class Adaptive:
    """Clippings in their order, and rates by layer, over the same gradients.

    Args:
        parameters: What is trained, in the optimizer's order.
        clip: The clippings.
        layer_rates: The rates; none for none.
        agree: Replaces a scalar in place by that of rank 0, where there are several ranks. Norms of the same gradient may differ in their
            last bit between processors of different kinds. A factor then differs in its last bit too, as all that an optimizer reckons
            does, but whether a step is made must not differ at all.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> made = make_adaptive(net, optimizer, clip=[{"type": "autoclip", "percentile": 50}])
    """

    def __init__(
        self,
        parameters: Sequence[Trained],
        *,
        clip: Sequence[Clipping] = (),
        layer_rates: LayerRates | None = None,
        agree: Callable[[Tensor], None] | None = None,
    ) -> None:
        self.clip, self.layer_rates, self._agree = tuple(clip), layer_rates, agree
        self._gradients = Gradients([one.parameter for one in parameters])
        self._groups = [*dict.fromkeys(one.group for one in parameters)]

    def look(self) -> None:
        """Take up the gradients of a step, before anything limits or penalises them."""
        self._gradients.gather()
        if self.layer_rates is not None:
            self.layer_rates(self._gradients)

    @torch.no_grad()
    def limit(self, *, by_group: bool = False) -> Limits:
        """Limit the gradients.

        Args:
            by_group: Whether the optimizer's step divides the gradients itself, where they are scaled by groups.
        """
        refused: Tensor | None = None
        self._gradients.changed()  # penalties and fixed limits may have been there
        for clipping in self.clip:
            flag = clipping(self._gradients)
            if flag is not None:
                refused = flag if refused is None else torch.maximum(refused, flag)
        if refused is not None and self._agree is not None:
            refused = refused.clone()  # it may be a piece of a history
            self._agree(refused)
        if by_group:
            return Limits(refused, self._gradients.hand_over(self._groups))
        self._gradients.settle()
        return Limits(refused)

    def hold(self) -> None:
        """Remember what the optimizer's step is about to change."""
        if self.layer_rates is not None:
            self.layer_rates.hold()

    def scale(self) -> None:
        """Make each layer's step as large as its rate says."""
        if self.layer_rates is not None:
            self.layer_rates.scale()

    def state_dict(self) -> dict[str, Tensor]:
        """Return all histories, as `PART/NAME`."""
        return {f"{part}/{name}": tensor for part, one in self._parts().items() for name, tensor in one.state_dict().items()}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `state_dict` returned.

        Raises:
            CheckpointError: It is of other clippings or rates.
        """
        parts = self._parts()
        given = {name.rpartition("/")[0] for name in tensors}
        if given != set(parts):
            raise CheckpointError(
                f"the checkpoint has histories of {', '.join(sorted(given)) or 'nothing'}, and the run wants {', '.join(sorted(parts))}",
                hint=RESUME_HINT,
            )
        for part, one in parts.items():
            one.load_state_dict({name.rpartition("/")[2]: tensor for name, tensor in tensors.items() if name.rpartition("/")[0] == part})

    def go_on(self, before: Adaptive) -> None:
        """Take up the histories of what was trained before, where what is trained has changed."""
        old = before._parts()
        for part, one in self._parts().items():
            one.go_on(old[part])

    def told(self) -> Told:
        """Return what there is to tell. Waits for the device: for events, not for steps."""
        histories = [clipping for clipping in self.clip if not clipping.refuses]
        share = max((clipping.limited_share() for clipping in histories), default=None)
        left_out = next((found for clipping in self.clip if (found := clipping.left_out()) is not None), None)
        return Told(share, left_out, self.layer_rates.rates() if self.layer_rates is not None else {})

    def _parts(self) -> dict[str, Remembering]:
        parts: dict[str, Remembering] = {f"clip {place} {type(one).__name__}": one for place, one in enumerate(self.clip)}
        return parts if self.layer_rates is None else {**parts, f"rates {type(self.layer_rates).__name__}": self.layer_rates}


def make_adaptive(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    clip: Spec | Sequence[Spec] | None = None,
    layer_rates: Spec | None = None,
    agree: Callable[[Tensor], None] | None = None,
) -> Adaptive | None:
    """Return clippings and rates by their specs, for what an optimizer trains of a model; nothing where there are none.

    Args:
        model: The model.
        optimizer: Over parameters of the model.
        clip: A `clipping` component, or several in the order in which they are to act.
        layer_rates: A `layer_rates` component.
        agree: As of `Adaptive`.
    """
    if isinstance(clip, str | Mapping):
        clip = [clip]
    if not clip and layer_rates is None:
        return None
    trained = trained_parameters(model, optimizer)
    clippings: list[Clipping] = [family("clipping").build(spec, trained) for spec in clip or ()]
    rates: LayerRates | None = None if layer_rates is None else family("layer_rates").build(layer_rates, trained)
    return Adaptive(trained, clip=clippings, layer_rates=rates, agree=agree)
