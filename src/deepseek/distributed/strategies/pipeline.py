"""The network cut into stages, one after the other on as many devices; micro-batches are under way in all of them at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Literal

import torch
import torch.distributed as dist
from annotated_types import Ge
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.nn.modules.batchnorm import _BatchNorm

from deepseek.data.batch import Batch
from deepseek.distributed.ranks import RankContext
from deepseek.distributed.strategies.base import Loss, Piece, Placement, Situation, Strategy, agree, put_parameter
from deepseek.distributed.strategies.chain import chain_of, composes, cuts_of, walk
from deepseek.errors import InputError

_HINT = "take strategy: ddp, fsdp or tensor"


class PipelineParallel(Strategy):
    """Every rank has some of the network's blocks, one after the other, and passes on what they return.

    The blocks are cut so that the stage with the most parameters has as few as can be. A batch goes through in micro-batches of one size;
    a smaller last one is filled up with rows that do not count.

    Source: Huang et al., "GPipe", 2019, https://arxiv.org/abs/1811.06965; Narayanan et al., "PipeDream", 2019 (1F1B),
    https://arxiv.org/abs/1806.03377.

    Args:
        schedule: `1f1b` (a backward pass as soon as it can be, which keeps fewer activations) or `gpipe` (all forward passes first).
        micro_batches: Into how many pieces a batch is cut, at least as many as there are stages for `1f1b`; more leave less idle time.
    """

    def __init__(self, *, schedule: Literal["1f1b", "gpipe"] = "1f1b", micro_batches: Annotated[int, Ge(1)] = 4) -> None:
        self.schedule, self.micro_batches = schedule, micro_batches

    def place(self, model: nn.Module, situation: Situation, /) -> Placement:
        """Cut the network.

        Raises:
            InputError: It is no chain of blocks, or has too few of them.
        """
        ranks = situation.ranks
        if self.schedule == "1f1b" and self.micro_batches < ranks.ranks:
            raise InputError(
                f"strategy: pipeline with schedule: 1f1b needs {ranks.ranks} micro_batches for {ranks.ranks} devices, and has "
                f"{self.micro_batches}",
                hint=f"take micro_batches: {ranks.ranks} or more, or schedule: gpipe",
            )
        stages = stages_of(model, ranks.ranks, row=situation.row)
        return Stages(model, situation, stages=stages, strategy=self)


def stages_of(model: nn.Module, count: int, *, row: Batch) -> list[list[nn.Module]]:
    """Return a model's blocks in stages, of as equal numbers of parameters as can be.

    Args:
        model: The model.
        count: How many stages.
        row: A row of its inputs.

    Raises:
        InputError: It cannot be cut, and why.
    """
    chain = chain_of(model)
    if chain is None:
        raise InputError("strategy: pipeline cannot cut this model: it does not say that it is a chain of blocks", hint=_HINT)
    if any(isinstance(part, _BatchNorm) for part in model.modules()):
        hint = "take normalization: layer or none, or another strategy"
        raise InputError("strategy: pipeline does not go with batch normalisation, whose batch would be a micro-batch", hint=hint)
    if any(name.endswith("_mask") for name in row.inputs):
        raise InputError("strategy: pipeline needs rows of one shape, and texts and series make each batch another one", hint=_HINT)
    sizes = [sum(parameter.numel() for parameter in part.parameters()) for part in chain]
    weighty = sum(bool(size) for size in sizes)
    if weighty < count:
        raise InputError(
            f"strategy: pipeline cannot cut a model of {weighty} blocks into {count} stages", hint=f"{_HINT}, or fewer devices"
        )
    if not composes(model, chain, row):
        raise InputError("strategy: pipeline cannot cut this model: its blocks one after the other do not answer as it does", hint=_HINT)
    cuts = cuts_of(sizes, count)
    stages = [chain[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(chain)], strict=True)]
    owners: dict[nn.Parameter, int] = {}
    for place, stage in enumerate(stages):
        for parameter in (one for part in stage for one in part.parameters()):
            if owners.setdefault(parameter, place) != place:
                raise InputError("strategy: pipeline cannot cut this model: blocks of two stages share a weight", hint=_HINT)
    if len(set(owners.values())) < count or len(owners) < sum(1 for _ in model.parameters()):
        raise InputError(f"strategy: pipeline finds no cut of this model into {count} stages that all have weights", hint=_HINT)
    trained = {place for parameter, place in owners.items() if parameter.requires_grad}
    if idle := [str(place) for place in range(count) if place not in trained]:
        raise InputError(f"strategy: pipeline would leave nothing to train in stage {', '.join(idle)}, counted from 0", hint=_HINT)
    return stages


class _Stage(nn.Module):
    """The blocks of one rank; those of the first take the inputs by name."""

    def __init__(self, blocks: Sequence[nn.Module], names: Sequence[str] | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self._names = names

    def forward(self, *tensors: Tensor) -> Tensor:
        """Pass what comes through the blocks."""
        out: Tensor | dict[str, Tensor] = tensors[0] if self._names is None else dict(zip(self._names, tensors, strict=True))
        for block in self.blocks:
            out = block(out)
        assert isinstance(out, Tensor)
        return out.contiguous()  # what is sent must be


class Stages(Placement):
    """A model in stages: a rank has the parameters of its own, and empty tensors in the place of the others.

    Args:
        model: The model, whole.
        situation: What it is placed in.
        stages: The blocks of each rank.
        strategy: The schedule and the number of micro-batches.
    """

    shards = True

    def __init__(
        self, model: nn.Module, situation: Situation, *, stages: Sequence[Sequence[nn.Module]], strategy: PipelineParallel
    ) -> None:
        ranks = situation.ranks
        super().__init__(model, ranks)
        self.rows = RankContext(0, 1, ranks.device)  # every rank knows all rows; the first reads their inputs, the last their targets
        self._count = strategy.micro_batches
        self._size = math.ceil(situation.batch_rows / self._count)
        self._names = list(situation.row.inputs)
        self._shapes, self._dtypes = super().shapes(), {name: tensor.dtype for name, tensor in model.state_dict().items()}
        self._owners = _owners(model, stages)
        agree(model, ranks)
        rows = {name: tensor.expand(self._size, *tensor.shape[1:]).contiguous() for name, tensor in situation.row.inputs.items()}
        met = walk(stages, rows, training=model.training)
        self._out = met[-1]
        self._drop_others()
        self._stage = _Stage(stages[ranks.rank], self._names if ranks.is_main else None).to(ranks.device)
        self._met = (tuple(rows.values()) if ranks.is_main else (met[ranks.rank - 1],), met[ranks.rank])
        self._trains = (Schedule1F1B if strategy.schedule == "1f1b" else ScheduleGPipe)(
            self._stage_for(), self._count, loss_fn=self._lose, scale_grads=False
        )
        self._answers = ScheduleGPipe(self._stage_for(), self._count)
        self._module = _Answering(self._stage, self.answer)
        self._loss: Loss | None = None
        self._parts: list[Batch] = []
        self._sums = torch.zeros(2, device=ranks.device)

    @property
    def module(self) -> nn.Module:
        """What all ranks call with the same rows, and what returns the outputs on all of them."""
        return self._module

    def backward(self, batch: Batch, *, loss: Loss, pieces: int, least: int) -> tuple[Tensor, Tensor]:
        """Send a batch through the pipeline; every rank is given all of it."""
        self.busy = True
        for parameter in self._stage.parameters():
            parameter.grad = None
        self._loss, self._sums = loss, torch.zeros_like(self._sums)
        self._parts = batch.split(self._size)
        given = self._filled(batch.inputs) if self.ranks.is_main else ()
        places = torch.arange(self._count * self._size) if self._is_last else None
        self._trains.step(*given, target=places, return_outputs=False)
        self._parts = []
        dist.broadcast(self._sums, src=self.ranks.ranks - 1)
        for parameter in self._stage.parameters():
            if parameter.grad is None and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        return self._sums[0], self._sums[1]

    def finish(self, denominator: Tensor) -> Tensor:
        """Return the denominator: the last stage has told it, and every gradient is whole where it is."""
        self.busy = False
        return denominator

    @torch.no_grad()
    def norm(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Return the norm over all stages."""
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        square = torch.zeros((), device=self.ranks.device) + nn.utils.get_total_norm(grads, foreach=True).square()
        dist.all_reduce(square)
        return square.sqrt()

    def piece(self, name: str) -> Piece | None:
        """Return all of what is in this rank's stage."""
        if self._owners.get(name, 0) != self.ranks.rank:
            return None
        return Piece.whole(self._shapes[self._firsts[name]] if name in self._firsts else self.model.get_buffer(name).shape)

    def local(self, name: str, whole: Tensor) -> Tensor:
        """Return it where it is in this rank's stage, and nothing of it elsewhere."""
        mine = self._owners.get(name, self.ranks.rank) == self.ranks.rank
        return whole if mine or name not in self._firsts else whole.new_empty(0)

    def shapes(self) -> dict[str, list[int]]:
        """Return the whole parameters' shapes, by name."""
        return self._shapes

    @torch.no_grad()
    def gather(self) -> None:
        """Send every stage's parameters to all ranks."""
        device = self.ranks.device
        made: dict[str, nn.Parameter] = {}
        for name, parameter in list(self.model.named_parameters(remove_duplicate=False)):
            first = self._firsts[name]
            if first not in made:
                own = self._owners[name] == self.ranks.rank
                whole = parameter.detach() if own else torch.empty(self._shapes[first], dtype=self._dtypes[name], device=device)
                whole = whole.contiguous()
                dist.broadcast(whole, src=self._owners[name])
                made[first] = nn.Parameter(whole, requires_grad=self._trained[first])
            put_parameter(self.model, name, made[first])
        self.model.to(device)
        for name, buffer in self.model.named_buffers():
            dist.broadcast(buffer, src=self._owners.get(name, 0))
        self.shards = False

    @property
    def _is_last(self) -> bool:
        return self.ranks.rank == self.ranks.ranks - 1

    def answer(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the outputs of all rows on every rank.

        Args:
            inputs: The rows' inputs; only the first rank's are read.
        """
        rows = next(iter(inputs.values())).shape[0]
        most, found = self._count * self._size, []
        for start in range(0, rows, most):
            some = {name: tensor[start : start + most] for name, tensor in inputs.items()}
            out = self._answers.step(*(self._filled(some) if self.ranks.is_main else ()))
            whole = out if self._is_last else self._out.new_empty(most, *self._out.shape[1:], device=self.ranks.device)
            whole = whole.contiguous()
            dist.broadcast(whole, src=self.ranks.ranks - 1)
            found.append(whole[: min(most, rows - start)])
        return torch.cat(found) if found else self._out.new_empty(0, *self._out.shape[1:], device=self.ranks.device)

    def _stage_for(self) -> PipelineStage:
        """Return the stage for a schedule, which keeps messages under way in it."""
        device, (given, returned) = self.ranks.device, self._met
        given = tuple(tensor.detach().to(device) for tensor in given)
        if not self.ranks.is_main:
            given = tuple(tensor.requires_grad_() for tensor in given)
        gone = returned.detach().to(device).requires_grad_()
        return PipelineStage(self._stage, self.ranks.rank, self.ranks.ranks, device, input_args=given, output_args=gone)

    def _filled(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return inputs as the first stage takes them: as many rows as the micro-batches have, the last one repeated."""
        rows = next(iter(inputs.values())).shape[0]
        places = torch.arange(self._count * self._size, device=self.ranks.device).clamp(max=rows - 1)
        return tuple(inputs[name][places] for name in self._names)

    def _lose(self, out: Tensor, places: Tensor) -> Tensor:
        place = int(places[0]) // self._size
        if place >= len(self._parts):
            return out[:0].sum()  # not times 0, which makes NaN of what is infinite
        part = self._parts[place]
        assert self._loss is not None
        numerator, denominator = self._loss(out[: len(part)], part)
        self._sums += torch.stack([numerator.detach().float(), denominator.detach().float()])
        return numerator

    def _drop_others(self) -> None:
        """Let go of the parameters of other stages."""
        self._trained = {name: parameter.requires_grad for name, parameter in self.model.named_parameters(remove_duplicate=False)}
        known: dict[nn.Parameter, str] = {}
        self._firsts = {name: known.setdefault(one, name) for name, one in self.model.named_parameters(remove_duplicate=False)}
        empty: dict[str, nn.Parameter] = {}
        for name, first in self._firsts.items():
            if self._owners[name] != self.ranks.rank:  # a weight of two names stays one, or averages would be kept of both
                empty.setdefault(first, nn.Parameter(torch.empty(0, device=self.ranks.device), requires_grad=False))
                put_parameter(self.model, name, empty[first])


class _Answering(nn.Module):
    """A pipeline as a module; its mode is that of this rank's stage."""

    everyone = True

    def __init__(self, stage: nn.Module, answer: Callable[[Mapping[str, Tensor]], Tensor]) -> None:
        super().__init__()
        self.stage, self._answer = stage, answer

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the outputs of all rows on every rank."""
        return self._answer(inputs)


def _owners(model: nn.Module, stages: Sequence[Sequence[nn.Module]]) -> dict[str, int]:
    """Return the rank that has each parameter and buffer, by name."""
    ranks = {id(tensor): rank for rank, stage in enumerate(stages) for block in stage for tensor in [*block.parameters(), *block.buffers()]}
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: ranks[id(tensor)] for name, tensor in named if id(tensor) in ranks}
