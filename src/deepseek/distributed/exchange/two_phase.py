"""Sums of shortened gradients in two phases, so that what a rank sends does not grow with the number of ranks.

Numbers in a code of their own cannot be summed on the way. So each rank is given one part of the bucket: it is sent that part by all
others, sums it in float32, and sends the sum to all. That is what a ring does, in two collectives; every value is shortened twice.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from deepseek.distributed.exchange.base import Bucket, Exchange, Waitable, keep_lost
from deepseek.distributed.exchange.packing import GROUP
from deepseek.distributed.ranks import RankContext

_MASK = (1 << 63) - 1
_SEND, _RETURN = 0, 1
"""The two phases."""


class TwoPhaseExchange(Exchange):
    """Sends each rank its part of a bucket in a short code, and the sums back in the same code; a derived class says which code.

    A rank's own part is not sent, and so not shortened, in the first phase.

    Args:
        error_feedback: Whether what a code has lost is added to what is sent in the next step (Karimireddy et al., 2019,
            https://arxiv.org/abs/1901.09847).
    """

    lossy = True

    def __init__(self, context: RankContext, /, *, error_feedback: bool = False) -> None:
        super().__init__(context)
        self.error_feedback = error_feedback
        self._lost: list[tuple[Tensor, Tensor]] = []  # of each bucket, by phase: [ranks, part] and [part], divided by the step's weight

    @property
    def remembers(self) -> bool:
        """Whether error feedback is on."""
        return self.error_feedback

    @abstractmethod
    def encode(self, values: Tensor, seed: int) -> Tensor:
        """Return messages for values.

        Args:
            values: float32 `[m, n]`, `n` a multiple of 8.
            seed: Whence random numbers come.

        Returns:
            uint8 `[m, bytes]`.
        """

    @abstractmethod
    def decode(self, messages: Tensor, size: int) -> Tensor:
        """Return the values of messages: float32 `[m, size]`."""

    def prepare(self, buckets: Sequence[Bucket]) -> None:
        """Forget what was lost in other buckets."""
        if not self.error_feedback:
            return
        ranks = self.context.ranks
        sizes = [(self._part(bucket.flat), bucket.flat.device) for bucket in buckets]
        self._lost = [(torch.zeros(ranks, size, device=device), torch.zeros(1, size, device=device)) for size, device in sizes]

    def exchange(self, bucket: Bucket, weight: Tensor) -> Iterator[Waitable]:
        """Sum the bucket."""
        rank, ranks, size = self.context.rank, self.context.ranks, self._part(bucket.flat)
        parts = functional.pad(bucket.flat.float(), (0, ranks * size - bucket.flat.numel())).view(ranks, size)
        messages = self._shorten(parts, bucket.index, _SEND, weight)
        received = torch.empty_like(messages)
        yield self.swap(received, messages)
        summed = self.decode(received, size)
        summed[rank] = parts[rank]
        message = self._shorten(summed.sum(dim=0, keepdim=True), bucket.index, _RETURN, weight)
        gathered = torch.empty(ranks, message.shape[1], dtype=torch.uint8, device=message.device)
        yield self.gather(gathered, message)
        bucket.flat.copy_(self.decode(gathered, size).view(-1)[: bucket.flat.numel()])

    def own_state(self) -> dict[str, Tensor]:
        """Return what has been lost and not yet been sent."""
        names = ("sent", "summed")
        return {f"{index}/{name}": lost for index, pair in enumerate(self._lost) for name, lost in zip(names, pair, strict=True)}

    def _part(self, flat: Tensor) -> int:
        """Return how many values a rank's part of a bucket has: padded, so that they fill whole bytes."""
        return -(-flat.numel() // (self.context.ranks * GROUP)) * GROUP

    def _shorten(self, values: Tensor, index: int, phase: int, weight: Tensor) -> Tensor:
        """Return messages for values, to which error feedback adds what was lost before."""
        seed = (self.seed + 2 * index + phase) & _MASK
        if not self.error_feedback:
            return self.encode(values, seed)
        lost = self._lost[index][phase]
        values = values + lost * weight
        messages = self.encode(values, seed)
        missing = values - self.decode(messages, values.shape[1])
        if phase == _SEND:
            missing[self.context.rank] = 0.0  # what is not sent loses nothing
        keep_lost(lost, missing, weight)
        return messages
