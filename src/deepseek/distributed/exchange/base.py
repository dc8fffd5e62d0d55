"""The contract of every exchange: how the gradients of one bucket become their sum over the ranks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from deepseek.distributed.ranks import RankContext

FLOAT32_BYTES = 4
TINY = torch.finfo(torch.float32).tiny
"""The least that is divided by: sums of weights and norms may be 0."""


class Waitable(Protocol):
    """What is under way: a collective, as `torch.distributed` returns it."""

    def wait(self) -> object:
        """Return when it is done, or, on an accelerator, when what comes after it will find it done."""


@dataclass(frozen=True)
class Bucket:
    """Gradients that travel together.

    Attributes:
        index: Which of the buckets of a step, in the order in which they are started.
        flat: The values, `[n]`; what is summed takes their place. A lossless exchange is also given the weight of the rank's rows, behind
            the last gradient of the last bucket.
        shapes: The shapes of the gradients in `flat`, one after the other.
    """

    index: int
    flat: Tensor
    shapes: tuple[torch.Size, ...]


@dataclass
class Traffic:
    """What the gradients of a rank cost on the wire, as a mean over the ranks, counted from the messages themselves.

    Collectives are counted by the algorithms that move the fewest bytes: `2 (n - 1) / n` of a buffer for a sum over `n` ranks, `n - 1`
    messages for a scatter or a gather. What a network adds (headers, acknowledgements) is not in it.

    Attributes:
        sent_bytes: What a rank has sent.
        plain_bytes: What it would have sent of float32 gradients in a ring.
    """

    sent_bytes: float = 0.0
    plain_bytes: float = 0.0

    @property
    def share(self) -> float:
        """What was sent, as a share of the plain float32 ring; 1 where nothing was."""
        return self.sent_bytes / self.plain_bytes if self.plain_bytes else 1.0


class Exchange(ABC):
    """Sums the gradients of a bucket over the ranks, in place, with the same bits on every rank at the end.

    It is a generator: it starts a collective without waiting, yields it, and goes on when it is done. So the collectives of all buckets
    are under way while the backward pass still runs, and steps that build on each other need no thread. Every rank starts the same
    collectives in the same order: how many there are may hang on a bucket's index and shapes, never on its values.

    Args:
        context: This process's place in a job of several ranks, whose process group it has joined.

    Attributes:
        lossy: Whether what arrives is not exactly the sum. The weight of the rows, by which the sum is divided, then travels on its own, so
            that it stays exact.
        remembers: Whether anything is kept from step to step, which checkpoints then hold. The global weight is then known before the
            first bucket is exchanged: sums of steps with unlike weights are comparable only when divided by them.
        traffic: What was sent so far.
    """

    lossy: ClassVar[bool] = False

    def __init__(self, context: RankContext, /) -> None:
        self.context = context
        self.traffic = Traffic()
        self.seed = 0

    @property
    def remembers(self) -> bool:
        """Whether anything is kept from step to step; nothing, unless a derived class says so."""
        return False

    def prepare(self, buckets: Sequence[Bucket]) -> None:
        """Make room for what is kept of these buckets; called before the first step, and again where other parameters are trained."""

    def begin(self, seed: int) -> None:
        """Take note that a step begins.

        Args:
            seed: Depends on the run's seed, the step and the rank, so that what is drawn in a step can be drawn again after a resume.
        """
        self.seed = seed

    @abstractmethod
    def exchange(self, bucket: Bucket, weight: Tensor) -> Iterator[Waitable]:
        """Sum a bucket in place, yielding each collective that was started.

        Args:
            bucket: The gradients.
            weight: The global weight of the step's rows, `[]`; only to be looked at by an exchange that `remembers`.
        """

    def own_state(self) -> dict[str, Tensor]:
        """Return what this rank keeps from step to step, by name; the same names and shapes on every rank."""
        return {}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `own_state` returned on this rank, into the tensors that it returns now."""
        for name, tensor in self.own_state().items():
            tensor.copy_(state[name])

    def sum_in_place(self, values: Tensor, group: dist.ProcessGroup | None = None) -> Waitable:
        """Start to sum a buffer over all ranks, or those of a group, and count what that sends."""
        ranks = self.context.ranks if group is None else dist.get_world_size(group)
        self.traffic.sent_bytes += ring_bytes(values.nbytes, ranks)
        return started(dist.all_reduce(values, group=group, async_op=True))

    def swap(self, out: Tensor, messages: Tensor, group: dist.ProcessGroup | None = None) -> Waitable:
        """Start to send row `r` of `messages` to rank `r`, and to take what the ranks send into the rows of `out`."""
        self.traffic.sent_bytes += messages.nbytes * (len(messages) - 1) / len(messages)
        return started(dist.all_to_all_single(out, messages, group=group, async_op=True))

    def gather(self, out: Tensor, message: Tensor, group: dist.ProcessGroup | None = None) -> Waitable:
        """Start to send a message to all ranks, and to take theirs into the rows of `out`."""
        self.traffic.sent_bytes += message.nbytes * (len(out) - 1)
        # the newer name where there is one: the older warns
        collect = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        return started(collect(out.view(-1), message.view(-1), group=group, async_op=True))

    def scatter_sum(self, out: Tensor, parts: Tensor, group: dist.ProcessGroup) -> Waitable:
        """Start to sum row `r` of `parts` over a group into `out` of its `r`-th rank."""
        self.traffic.sent_bytes += parts.nbytes * (len(parts) - 1) / len(parts)
        reduce = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
        return started(reduce(out.view(-1), parts.view(-1), group=group, async_op=True))


def started(work: object) -> Waitable:
    """Return a collective that was started; `torch.distributed` returns nothing only to those outside the group."""
    assert work is not None
    return work  # type: ignore[return-value]


def ring_bytes(size: int, ranks: int) -> float:
    """Return what a rank sends to sum a buffer in a ring (Patarasuk and Yuan, 2009, https://doi.org/10.1016/j.jpdc.2008.09.002).

    Example:
        >>> ring_bytes(100, 4)
        150.0
    """
    return 2 * size * (ranks - 1) / ranks


def keep_lost(lost: Tensor, missing: Tensor, weight: Tensor) -> None:
    """Keep what messages have lost, in place, for the next step: error feedback.

    It is kept divided by the weight of the step's rows, as sums of steps with unlike weights are comparable only so. A step whose rows
    weigh nothing says nothing, and what is not finite must not stay for good.

    Args:
        lost: What is kept.
        missing: What was to be sent, less what arrived; of the shape of `lost`.
        weight: The global weight of the step's rows, `[]`.
    """
    share = missing / weight.clamp_min(TINY)
    lost.copy_(torch.where(share.isfinite(), torch.where(weight > 0, share, lost), 0.0))


def cut(flat: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Return views of the gradients in a flat buffer, each in its shape."""
    sizes = [shape.numel() for shape in shapes]
    return [piece.view(shape) for piece, shape in zip(torch.split(flat[: sum(sizes)], sizes), shapes, strict=True)]
