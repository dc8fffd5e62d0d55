"""Clipping to a quantile of the norms that gradients have had."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from deepseek.errors import InputError
from deepseek.optim.clippings.base import Clipping, Steps
from deepseek.optim.gradients import Gradients, Per, Trained


class AutoClipping(Clipping):
    """Scales gradients down to a quantile of their own norms so far, so that no limit has to be found by hand.

    With the tenth percentile, most steps are scaled: the norms become nearly all alike, and what is left of a gradient is its direction.
    Here the history is that of the last `window` steps, where the paper keeps all of them, and the limit is taken from it anew every few
    steps, as it changes slowly and sorting takes time. The norm of a step enters the history as it was before clipping; one that is
    infinite or NaN does not, and neither does one of 0, that of a layer which no row of the batch has reached.

    For the first `warmup` norms of a part nothing is clipped: a limit from few norms would be a matter of chance. Put `norm` before it
    where the first steps are what has to be guarded.

    Source: Seetharaman, Wichern, Pardo and Le Roux, "AutoClip: Adaptive Gradient Clipping for Source Separation Networks", 2020,
    https://arxiv.org/abs/2007.14469.

    Args:
        percentile: Which percentile of the norms is the limit, over 0 and at most 100.
        window: How many of the last steps the history holds.
        warmup: Norms of a part at its beginning in which nothing is clipped.
        every: Steps between two looks at the history.
        per: Whose history: the `model`'s, each `group`'s of the optimizer, or each `layer`'s.

    Raises:
        InputError: `warmup` is more than `window`.
    """

    def __init__(
        self,
        parameters: Sequence[Trained],
        /,
        *,
        percentile: Annotated[float, Gt(0), Le(100)] = 10.0,
        window: Steps = 1000,
        warmup: Annotated[int, Ge(1)] = 20,
        every: Steps = 10,
        per: Per = "group",
    ) -> None:
        super().__init__(parameters, per=per)
        if warmup > window:
            raise InputError(f"warmup is {warmup} and window {window}", hint="a history of at least as many steps as the warm-up takes")
        self.percentile, self.window, self.warmup, self.every = percentile, window, warmup, every
        parts = len(self.parts.names)
        self.state["history"] = torch.full((parts, window), math.nan, device=self.parts.device)
        self.state["limit"] = torch.full((parts,), math.inf, device=self.parts.device)

    def limit(self, gradients: Gradients) -> None:
        """Remember the norms, look the limit up where it is time, and scale."""
        norms, limit = self.parts.norms(gradients.norms), self.state["limit"]
        kept = self.state["history"][:, self.made % self.window]
        torch.where(self.enter(norms), norms, kept, out=kept)
        since, count = self.made + 1 - self.warmup, self.state["count"]
        if since < 0:
            return
        if since % self.every == 0:
            found = torch.nanquantile(self.state["history"], self.percentile / 100.0, dim=1)
            limit.copy_(found.where(count >= self.warmup, limit))
        if since > 0:
            self.scale_(gradients, (limit / norms).where((norms > limit) & (count > self.warmup), 1.0))
