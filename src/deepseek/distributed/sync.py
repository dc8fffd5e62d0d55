"""What ranks tell each other: gradients, sums, weights at the start, decisions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import groupby

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deepseek.distributed.exchange.all_reduce import AllReduceExchange
from deepseek.distributed.exchange.base import FLOAT32_BYTES, Bucket, Exchange, Waitable, ring_bytes
from deepseek.distributed.pace import Pace
from deepseek.distributed.ranks import RankContext

_BUCKET_BYTES = 25 << 20

_Run = tuple[Iterator[Waitable], Waitable]
"""An exchange under way, and the collective that it waits for."""


class GradientSync:
    """Sums gradients over the ranks while the backward pass still runs.

    Every parameter's gradient is a view into one of a few flat buckets, ordered as the backward pass fills them; when the last gradient of
    a bucket is there, its sum over the ranks starts (Li et al., 2020, https://arxiv.org/abs/2006.15704). Buckets are started strictly in
    order, so that a rank with no rows at all, which has no backward pass, takes part by starting them itself. The sum of the rows' weights
    travels in the last bucket, or on its own where buckets do not arrive as they were sent. Nothing is averaged: the step divides once, by
    the global denominator.

    A parameter that no row uses has a gradient of zero here, not none as on a single rank.

    Args:
        parameters: Those that are trained, in the model's order.
        bucket_bytes: The size at which a bucket is closed.
        exchange: How a bucket is summed; as it is, in one collective, where not given.

    Attributes:
        pace: Where it is given, measures how long this rank takes for its rows.
        revocable: Whether a step may turn out to be refused: what the exchange keeps is then copied before each, for `take_back`.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], *, bucket_bytes: int = _BUCKET_BYTES, exchange: Exchange | None = None) -> None:
        groups = _split([*reversed(parameters)], bucket_bytes)
        self.exchange = exchange or AllReduceExchange(RankContext(dist.get_rank(), dist.get_world_size()))
        self.pace: Pace | None = None
        self.revocable = False
        self._before: dict[str, Tensor] = {}
        self._sizes = [len(group) for group in groups]
        self._flats = [_flatten(group, extra=int(index == len(groups) - 1)) for index, group in enumerate(groups)]
        self._views = [pair for flat, group in zip(self._flats, groups, strict=True) for pair in zip(group, _cut(flat, group), strict=True)]
        self._buckets = [
            _bucket(index, flat, group, own_weight=self.exchange.lossy)
            for index, (flat, group) in enumerate(zip(self._flats, groups, strict=True))
        ]
        self.exchange.prepare(self._buckets)
        self._pending = list(self._sizes)
        self._started: list[_Run] = []
        self._begun = False
        self._weight: Waitable | None = None
        self._armed = False
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(partial(self._ready, index))  # type: ignore[no-untyped-call]
            for index, group in enumerate(groups)
            for parameter in group
        ]

    @property
    def busy(self) -> bool:
        """Whether a sum has been started in this step, so that the other ranks count on this one to go on."""
        return self._begun

    def close(self) -> None:
        """Let go of the parameters: another takes its place, for other ones."""
        for hook in self._hooks:
            hook.remove()
        for parameter, _ in self._views:
            parameter.grad = None

    def zero(self) -> None:
        """Set every gradient to zero and forget what was counted."""
        for flat in self._flats:
            flat.zero_()
        for parameter, view in self._views:
            parameter.grad = view
        self._pending, self._armed = list(self._sizes), False
        if self.revocable and self.exchange.remembers:
            self._before = {name: tensor.clone() for name, tensor in self.exchange.own_state().items()}
        if self.pace is not None:
            self.pace.begin()

    def arm(self, denominator: Tensor) -> None:
        """Announce that the next backward pass is the step's last, and with what weight this rank's rows come."""
        self._flats[-1][-1] = denominator
        self._armed = True

    def finish(self) -> Tensor:
        """Start what has not been started, wait for all sums, and return the global denominator."""
        if self.pace is not None:
            self.pace.end()
        while len(self._started) < len(self._flats):
            self._start()
        if self._weight is not None:
            self._weight.wait()
        _complete(self._started)
        self._started, self._weight, self._begun = [], None, False
        return self._flats[-1][-1]

    @torch.no_grad()
    def take_back(self, refused: Tensor | None = None) -> None:
        """Let the exchange keep what it kept before the step: what it has lost of gradients that nobody used must not be sent later.

        Args:
            refused: A scalar on the device, over 0 where the step was refused, which is not waited for; it was where not given.
        """
        if self._before:
            now = self.exchange.own_state() if refused is not None else {}
            back = {name: torch.where(refused > 0, kept, now[name]) if refused is not None else kept for name, kept in self._before.items()}
            self.exchange.load_own_state(back)

    def _ready(self, index: int, _: Tensor) -> None:
        if not self._armed:
            return
        self._pending[index] -= 1
        while len(self._started) < len(self._flats) and self._pending[len(self._started)] == 0:
            self._start()

    def _start(self) -> None:
        self._begun = True  # before anything is sent: memory may run out between the first message and the last
        exchange, weight = self.exchange, self._flats[-1][-1:]
        if exchange.lossy and not self._started:
            self._weight = exchange.sum_in_place(weight)
            if exchange.remembers:
                with self.pace.stopped() if self.pace is not None else nullcontext():
                    self._weight.wait()
                self._weight = None
        bucket = self._buckets[len(self._started)]
        exchange.traffic.plain_bytes += ring_bytes(bucket.flat.numel() * FLOAT32_BYTES, exchange.context.ranks)
        run = exchange.exchange(bucket, weight[0])
        self._started.append((run, next(run)))


@torch.no_grad()
def broadcast_(tensors: Iterable[Tensor], context: RankContext) -> None:
    """Replace tensors in place by those of rank 0."""
    if not context.is_single:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def sum_across(tensors: Sequence[Tensor], context: RankContext) -> None:
    """Replace tensors in place by their sums over the ranks, in float64 and one message.

    Counts and sums added as float64 are exact where means of means are not.
    """
    if context.is_single or not tensors:
        return
    device = context.device if context.device.type != "mps" else torch.device("cpu")
    flat = torch.cat([tensor.detach().to(device, torch.float64).flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def concatenate_across(rows: Tensor, context: RankContext) -> Tensor:
    """Return the rows of all ranks, rank by rank, on every rank, in float64 and where they were.

    Args:
        rows: This rank's, `[n, …]`; `n` may differ.
        context: This process's place in the job.
    """
    if context.is_single:
        return rows
    device = context.device if context.device.type != "mps" else torch.device("cpu")
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(context.ranks)]
    dist.all_gather(counts, torch.tensor([len(rows)], dtype=torch.int64, device=device))
    lengths = [int(count) for count in counts]
    padded = torch.zeros(max(lengths), *rows.shape[1:], dtype=torch.float64, device=device)
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(parts, padded)
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)]).to(rows.device)


def broadcast_message(values: Sequence[int], context: RankContext) -> list[int]:
    """Return rank 0's integers on every rank: how a decision becomes everyone's."""
    if context.is_single:
        return list(values)
    message = torch.tensor(values, dtype=torch.int64, device=context.device)
    dist.broadcast(message, src=0)
    return [int(value) for value in message.tolist()]


def largest_across(value: int, context: RankContext) -> int:
    """Return the largest of the ranks' integers on every rank."""
    if context.is_single:
        return value
    message = torch.tensor([value], dtype=torch.int64, device=context.device)
    dist.all_reduce(message, op=dist.ReduceOp.MAX)
    return int(message)


def broadcast_numbers(numbers: Mapping[str, float], context: RankContext) -> dict[str, float]:
    """Return rank 0's numbers, bit for bit, on every rank, by the names that all of them have: what is decided by them is decided alike."""
    if context.is_single:
        return dict(numbers)
    message = torch.tensor([*numbers.values()], dtype=torch.float64, device=context.device)
    dist.broadcast(message, src=0)
    return dict(zip(numbers, message.tolist(), strict=True))


def _complete(runs: Sequence[_Run]) -> None:
    """Bring exchanges to their end, a collective of each in turn, so that those of one bucket run while another's are waited for."""
    while runs:
        further = []
        for run, work in runs:
            work.wait()
            following = next(run, None)
            if following is not None:
                further.append((run, following))
        runs = further


def _bucket(index: int, flat: Tensor, group: Sequence[nn.Parameter], *, own_weight: bool) -> Bucket:
    shapes = tuple(parameter.shape for parameter in group)
    return Bucket(index, flat[: sum(shape.numel() for shape in shapes)] if own_weight else flat, shapes)


def _split(parameters: Sequence[nn.Parameter], bucket_bytes: int) -> list[list[nn.Parameter]]:
    groups: list[list[nn.Parameter]] = []
    for _, same in groupby(parameters, key=lambda parameter: (parameter.dtype, parameter.device)):
        size = bucket_bytes + 1
        for parameter in same:
            if size + parameter.nbytes > bucket_bytes:
                groups.append([])
                size = 0
            groups[-1].append(parameter)
            size += parameter.nbytes
    return groups


def _flatten(group: Sequence[nn.Parameter], *, extra: int) -> Tensor:
    return torch.zeros(sum(parameter.numel() for parameter in group) + extra, dtype=group[0].dtype, device=group[0].device)


def _cut(flat: Tensor, group: Sequence[nn.Parameter]) -> list[Tensor]:
    sizes = [parameter.numel() for parameter in group]
    pieces = torch.split(flat[: sum(sizes)], sizes)
    return [_laid_like(piece, parameter) for piece, parameter in zip(pieces, group, strict=True)]


def _laid_like(piece: Tensor, parameter: nn.Parameter) -> Tensor:
    """Return a piece of memory in a parameter's shape and in its order in memory (channels last), as the state of optimizers is.

    Fused kernels walk weights, gradients and state one number after the other, and look at no strides.
    """
    return piece.as_strided(parameter.shape, torch.empty_like(parameter, device="meta").stride())
