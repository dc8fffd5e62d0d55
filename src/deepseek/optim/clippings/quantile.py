"""The contract of clippings that go by a quantile of the norms so far."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deepseek.errors import InputError
from deepseek.optim.clippings.base import Clipping, is_measured
from deepseek.optim.gradients import Per, Trained


class QuantileClipping(Clipping):
    """Keeps the norms of the last steps, and a quantile of them, taken anew every few steps: it changes slowly, and sorting takes time.

    Args:
        parameters: What is trained.
        quantile: Which quantile, over 0 and at most 1.
        window: How many of the last steps the history holds.
        warmup: Norms of a part before which there is no quantile of it; it is infinite until then.
        every: Steps between two looks at the history.
        per: Whose history is kept.

    Raises:
        InputError: `warmup` is more than `window`.
    """

    def __init__(
        self, parameters: Sequence[Trained], /, *, quantile: float, window: int, warmup: int, every: int, per: Per = "model"
    ) -> None:
        super().__init__(parameters, per=per)
        if warmup > window:
            raise InputError(f"warmup is {warmup} and window {window}", hint="a history of at least as many steps as the warm-up takes")
        self.quantile, self.window, self.warmup, self.every = quantile, window, warmup, every
        parts, device = len(self.parts.names), self.parts.device
        self.state["history"] = torch.full((parts, window), math.nan, device=device)
        self.state["quantile"] = torch.full((parts,), math.inf, device=device)
        self._places = self.state["history"].unbind(1)

    def remember(self, norms: Tensor) -> None:
        """Let the norms of a step, `[k]`, into the history, and take the quantile where it is time.

        An operation on a handful of numbers costs what it costs to call it: a step writes its norms down, whatever they are, and which of
        them are measurements is asked of the whole history at once.
        """
        self._places[self.made % self.window].copy_(norms)
        since = self.made + 1 - self.warmup
        if since >= 0 and since % self.every == 0:
            self._take_quantile()

    def _take_quantile(self) -> None:
        history, quantile = self.state["history"], self.state["quantile"]
        measured = is_measured(history)
        found = torch.nanquantile(history.where(measured, math.nan), self.quantile, dim=1)
        enough = min(self.made, self.warmup, self.window - 1)  # and one more, once the first steps are over
        quantile.copy_(found.where(measured.sum(1) > enough, quantile))
