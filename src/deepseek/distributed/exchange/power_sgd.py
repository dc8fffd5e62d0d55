"""Gradients as matrices of low rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from deepseek.distributed.exchange.base import Bucket, Exchange, Waitable, cut, keep_lost
from deepseek.distributed.ranks import RankContext

_LEAST_GAIN = 2
"""A gradient travels as two factors where they have at most one half of its values."""


@dataclass
class _Factored:
    """What is kept of a bucket: of each of its gradients the right factor, none for one that travels whole, and what was lost."""

    right: list[Tensor | None]
    lost: Tensor


class PowerSgdExchange(Exchange):
    """Sends each gradient as the product of two thin matrices: PowerSGD (Vogels et al., 2019, https://arxiv.org/abs/1905.13727).

    A gradient `[m, …]` is read as a matrix `M`. One step of a subspace iteration that goes on from step to step gives `P = M Q`, summed
    over the ranks and made orthonormal, and `Q = Mᵀ P`, summed as well; the sum is taken to be `P Qᵀ`. Vectors, and matrices too small to
    gain from it, travel as they are. A factor's rounding hangs on the library that reckons it: ranks have to be devices of one kind.

    Args:
        rank: The width of the factors; a larger one is more exact and costs more.
        error_feedback: Whether what the factors have lost is added to the gradient of the next step. Without, much is lost for good.
    """

    lossy = True

    def __init__(self, context: RankContext, /, *, rank: Annotated[int, Ge(1)] = 4, error_feedback: bool = True) -> None:
        super().__init__(context)
        self.rank, self.error_feedback = rank, error_feedback
        self._kept: list[_Factored] = []

    @property
    def remembers(self) -> bool:
        """Always: the right factors are where the next step's iteration begins."""
        return True

    def prepare(self, buckets: Sequence[Bucket]) -> None:
        """Draw the first right factors, the same on every rank."""
        self._kept = []
        for bucket in buckets:
            generator = torch.Generator().manual_seed(bucket.index)
            right = [self._first(shape, generator, bucket.flat) for shape in bucket.shapes]
            self._kept.append(_Factored(right, torch.zeros_like(bucket.flat, dtype=torch.float32)))

    def exchange(self, bucket: Bucket, weight: Tensor) -> Iterator[Waitable]:
        """Sum the bucket."""
        kept = self._kept[bucket.index]
        values = bucket.flat.float() + kept.lost * weight if self.error_feedback else bucket.flat.float()
        places = list(zip(cut(values, bucket.shapes), cut(bucket.flat, bucket.shapes), cut(kept.lost, bucket.shapes), strict=True))
        thin = [(*place, right) for place, right in zip(places, kept.right, strict=True) if right is not None]
        whole = [place for place, right in zip(places, kept.right, strict=True) if right is None]
        lefts = [value.flatten(1) @ right for value, _, _, right in thin]
        message = torch.cat([left.flatten() for left in [*lefts, *(value for value, _, _ in whole)]])
        yield self.sum_in_place(message)
        summed = cut(message, [left.shape for left in lefts] + [value.shape for value, _, _ in whole])
        for (_, out, _), value in zip(whole, summed[len(lefts) :], strict=True):
            out.copy_(value)
        if not thin:
            return
        lefts = [torch.linalg.qr(left).Q for left in summed[: len(lefts)]]
        own = [value.flatten(1).mT @ left for (value, _, _, _), left in zip(thin, lefts, strict=True)]
        factors = torch.cat([right.flatten() for right in own])
        yield self.sum_in_place(factors)
        rights = cut(factors, [right.shape for right in own])
        for (value, out, lost, right), left, mine, ours in zip(thin, lefts, own, rights, strict=True):
            out.copy_((left @ ours.mT).view_as(out))
            right.copy_(ours.nan_to_num(0.0, 0.0, 0.0))  # a step that is not finite must not end the iteration for good
            if self.error_feedback:
                keep_lost(lost, value - (left @ mine.mT).view_as(value), weight)

    def own_state(self) -> dict[str, Tensor]:
        """Return the right factors and what was lost."""
        state: dict[str, Tensor] = {}
        for index, kept in enumerate(self._kept):
            state |= {f"{index}/right/{place}": right for place, right in enumerate(kept.right) if right is not None}
            if self.error_feedback:
                state[f"{index}/lost"] = kept.lost
        return state

    def _first(self, shape: torch.Size, generator: torch.Generator, like: Tensor) -> Tensor | None:
        if len(shape) < 2:
            return None
        rows, columns = shape[0], shape[1:].numel()
        width = min(self.rank, rows, columns)
        if (rows + columns) * width * _LEAST_GAIN > rows * columns:
            return None
        return torch.randn(columns, width, generator=generator).to(like.device)
