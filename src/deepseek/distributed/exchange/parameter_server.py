"""Gradients collected by one rank, and their sum returned by it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
import torch.distributed as dist
from annotated_types import Ge
from torch import Tensor

from deepseek.distributed.exchange.base import Bucket, Exchange, Waitable, started
from deepseek.distributed.ranks import RankContext
from deepseek.errors import InputError


class ParameterServerExchange(Exchange):
    """Sends all gradients to one rank, which sums them in the order of the ranks and returns the sum.

    It is synchronous: every rank waits for the sum, so the weights are those of any other exact exchange, to rounding. The server, which
    trains like every rank, receives and returns `n - 1` times a rank's gradients: it pays where one rank has by far the fastest link, and
    its memory holds each bucket `n` times. (Li et al., 2014, https://www.usenix.org/conference/osdi14/technical-sessions/presentation/li_mu,
    describe servers that do not wait; those make a run that cannot be repeated.)

    Args:
        server: Which rank collects, counted from 0.
    """

    def __init__(self, context: RankContext, /, *, server: Annotated[int, Ge(0)] = 0) -> None:
        super().__init__(context)
        if server >= context.ranks:
            raise InputError(f"the server is rank {server}; there are {context.ranks} ranks", hint=f"allowed: 0 to {context.ranks - 1}")
        self.server = server

    def exchange(self, bucket: Bucket, weight: Tensor) -> Iterator[Waitable]:
        """Sum the bucket."""
        flat, ranks = bucket.flat, self.context.ranks
        serves = self.context.rank == self.server
        received = torch.empty(ranks, flat.numel(), dtype=flat.dtype, device=flat.device) if serves else None
        self.traffic.sent_bytes += 2 * flat.nbytes * (ranks - 1) / ranks
        yield started(dist.gather(flat, None if received is None else list(received), dst=self.server, async_op=True))
        if received is not None:
            flat.copy_(received.sum(dim=0))
        yield started(dist.broadcast(flat, src=self.server, async_op=True))
