"""A model whose parameters are distributed tensors, seen by everything else as plain tensors: this rank's parts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from deepseek.data.batch import Batch
from deepseek.distributed.ranks import RankContext
from deepseek.distributed.strategies.base import Everyone, Loss, Piece, Placement, put_parameter
from deepseek.distributed.sync import broadcast_


@dataclass(frozen=True)
class _Pair:
    """A parameter of the distributed copy, and the plain one that shares its memory."""

    source: nn.Parameter
    local: nn.Parameter
    piece: Piece
    split: bool


class Shards(Placement):
    """A model in distributed tensors.

    The model that was given stays what optimizer, average and checkpoint look at; its parameters become this rank's parts, plain tensors in
    the memory of the distributed ones. A copy of it, which `distribute` turns into distributed tensors, is what is called. So an optimizer
    that works element by element makes the step of the whole model, and no other code has to know of distributed tensors.

    Args:
        model: The model, whole, the same on every rank.
        ranks: This process's place in the job.
        row: One row.
        rows: This process's place among those that share out rows.
        distribute: Turns a copy of the model into distributed tensors, in place.
    """

    shards = cuts_tensors = True

    def __init__(
        self, model: nn.Module, ranks: RankContext, *, row: Batch, rows: RankContext, distribute: Callable[[nn.Module], None]
    ) -> None:
        super().__init__(model, ranks)
        self.rows, self.stream = rows, rows.rank
        body = copy.deepcopy(model)
        distribute(body)
        self._module = Everyone(body, row.to(ranks.device).inputs)
        self._pairs: dict[str, _Pair] = {}
        self._shapes = super().shapes()
        self._adopt(body)

    @property
    def module(self) -> nn.Module:
        """The distributed copy."""
        return self._module

    def backward(self, batch: Batch, *, loss: Loss, pieces: int, least: int) -> tuple[Tensor, Tensor]:
        """Send as many micro-batches forward and backward as every other rank, without rows where there are fewer."""
        self.busy = True
        for pair in self._pairs.values():
            pair.source.grad = pair.local.grad = None
        forward = self.precision.wrap(self._module)
        of_rows = self.precision.wrap(lambda part: loss(forward(part.inputs), part))
        of_none = self.precision.wrap(lambda: self._module.nothing().sum())
        parts = batch.split(-(-len(batch) // pieces), least=least) if len(batch) else []
        sums = torch.zeros(2, dtype=torch.float32, device=self.ranks.device)
        for place in range(pieces):
            if place < len(parts):
                numerator, denominator = of_rows(parts[place])
                sums += torch.stack([numerator.detach().float(), denominator.detach().float()])
            else:
                numerator = of_none()
            torch.autograd.backward(numerator)
        return sums[0], sums[1]

    @torch.no_grad()
    def finish(self, denominator: Tensor) -> Tensor:
        """Hand the parts of the gradients on to the plain parameters, and sum the denominator over those that share out rows."""
        for pair in self._pairs.values():
            grad = pair.source.grad
            if isinstance(grad, DTensor):
                assert isinstance(pair.source, DTensor)
                grad = grad.redistribute(placements=pair.source.placements).to_local()
            if pair.local.requires_grad:
                pair.local.grad = torch.zeros_like(pair.local) if grad is None else grad
        denominator = denominator.clone()
        if not self.rows.is_single:
            dist.all_reduce(denominator)
        self.busy = False
        return denominator

    @torch.no_grad()
    def norm(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Return the norm over all parts; what every rank has whole is counted on rank 0."""
        counted = {pair.local for pair in self._pairs.values() if pair.split or self.ranks.is_main}
        grads = [parameter.grad for parameter in parameters if parameter in counted and parameter.grad is not None]
        square = torch.zeros((), device=self.ranks.device) + nn.utils.get_total_norm(grads, foreach=True).square()
        dist.all_reduce(square)
        return square.sqrt()

    def piece(self, name: str) -> Piece | None:
        """Return this rank's part; of what every rank has whole, all of it on rank 0."""
        pair = self._pairs.get(name)
        if pair is not None and pair.split:
            return pair.piece
        if not self.ranks.is_main:
            return None
        return Piece.whole(self.model.get_buffer(name).shape if pair is None else pair.local.shape)

    def local(self, name: str, whole: Tensor) -> Tensor:
        """Return this rank's part of a tensor that is like a parameter."""
        pair = self._pairs.get(name)
        return whole if pair is None or tuple(whole.shape) != pair.piece.shape else pair.piece.of(whole)

    def shapes(self) -> dict[str, list[int]]:
        """Return the whole parameters' shapes, by name."""
        return self._shapes

    @torch.no_grad()
    def gather(self) -> None:
        """Put the whole parameters into the model."""
        made: dict[nn.Parameter, nn.Parameter] = {}
        for name, pair in self._pairs.items():
            if pair.source not in made:
                whole = pair.source.full_tensor() if isinstance(pair.source, DTensor) else pair.source.detach()
                made[pair.source] = nn.Parameter(whole.clone(), requires_grad=pair.local.requires_grad)
            put_parameter(self.model, name, made[pair.source])
        self._pairs, self.shards = {}, False
        self._module = Everyone(nn.Identity(), {})
        self.model.to(self.ranks.device)
        broadcast_(self.model.buffers(), self.ranks)

    @torch.no_grad()
    def _adopt(self, body: nn.Module) -> None:
        """Let the model's parameters and buffers be those of the distributed copy."""
        locals_of: dict[nn.Parameter, nn.Parameter] = {}
        for name, source in body.named_parameters(remove_duplicate=False):
            split = isinstance(source, DTensor)
            if source not in locals_of:
                plain = nn.Parameter(source.to_local(), requires_grad=source.requires_grad) if isinstance(source, DTensor) else source
                locals_of[source] = plain
            put_parameter(self.model, name, locals_of[source])
            self._pairs[name] = _Pair(source, locals_of[source], _piece_of(source), split and not _is_replicated(source))
        for name, buffer in body.named_buffers(remove_duplicate=False):
            owner, _, leaf = name.rpartition(".")
            setattr(self.model.get_submodule(owner), leaf, buffer)


def _is_replicated(source: nn.Parameter) -> bool:
    return isinstance(source, DTensor) and all(placement.is_replicate() for placement in source.placements)


def _piece_of(source: nn.Parameter) -> Piece:
    if not isinstance(source, DTensor):
        return Piece.whole(source.shape)
    size, start = compute_local_shape_and_global_offset(source.shape, source.device_mesh, source.placements)
    return Piece(tuple(source.shape), tuple(start), tuple(size))
