"""Clipping to a quantile of the norms that gradients have had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from deepseek.optim.clippings.base import Steps
from deepseek.optim.clippings.quantile import QuantileClipping
from deepseek.optim.gradients import Gradients, Per, Trained


class AutoClipping(QuantileClipping):
    """Scales gradients down to a quantile of their own norms so far, so that no limit has to be found by hand.

    With the tenth percentile, most steps are scaled: the norms become nearly all alike, and what is left of a gradient is its direction.
    Here the history is that of the last `window` steps, where the paper keeps all of them, and the limit is taken from it anew every few
    steps, as it changes slowly and sorting takes time. The norm of a step enters the history as it was before clipping; one that is
    infinite or NaN does not, and neither does one of 0, that of a layer which no row of the batch has reached.

    A step in which a part has no norm takes its place in the part's history all the same. Where the last `window` steps hold no more than
    `warmup` norms of a part, its limit stays as it was, and one that has never had more, as a layer that few batches reach, has none.

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
        super().__init__(parameters, quantile=percentile / 100.0, window=window, warmup=warmup, every=every, per=per)
        self._most = torch.ones((), device=self.parts.device)

    def limit(self, gradients: Gradients) -> None:
        """Remember the norms, and scale those over the limit."""
        norms = self.parts.norms(gradients.norms)
        self.remember(norms)
        if self.made >= self.warmup:
            self.scale_(gradients, torch.fmin(self.state["quantile"] / norms, self._most))  # 1 of NaN: no limit yet, and an infinite norm
