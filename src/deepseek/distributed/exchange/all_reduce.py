"""Gradients summed as they are."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from deepseek.distributed.exchange.base import Bucket, Exchange, Waitable


class AllReduceExchange(Exchange):
    """Sums gradients as they are, in one collective a bucket: exact to rounding, and the default."""

    def exchange(self, bucket: Bucket, weight: Tensor) -> Iterator[Waitable]:
        """Sum the bucket."""
        yield self.sum_in_place(bucket.flat)
