"""The contract of strategies: how the ranks of a job share out a model, its gradients and its rows.

A strategy *places* a model: afterwards every rank has a part of it, and the rest of the training, optimizer, clipping, averages and
checkpoints, works on that part as if it were a model. What a rank has lies in the model that was given, as plain tensors; what is called
is `Placement.module`. In the end `Placement.gather` makes the model whole again on every rank.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from deepseek.data.batch import Batch
from deepseek.distributed.exchange import Exchange
from deepseek.distributed.precision import Precision
from deepseek.distributed.ranks import RankContext
from deepseek.distributed.sync import broadcast_

Loss = Callable[[Tensor, Batch], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Piece:
    """Where a rank's part of a tensor lies in the whole.

    Attributes:
        shape: The whole tensor's shape.
        start: Where the part begins, in each dimension.
        size: The part's shape.
    """

    shape: tuple[int, ...]
    start: tuple[int, ...]
    size: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Piece:
        """Return the piece that is all of a tensor."""
        return cls(tuple(shape), (0,) * len(shape), tuple(shape))

    def of(self, whole: Tensor) -> Tensor:
        """Return the part of a whole tensor, as a view."""
        for dimension, (start, size) in enumerate(zip(self.start, self.size, strict=True)):
            whole = whole.narrow(dimension, start, size)
        return whole


@dataclass(frozen=True)
class Situation:
    """What a model is placed in.

    Attributes:
        ranks: This process's place in the job.
        row: One row of the training data, for what has to be found out by sending something through the model; on the processor.
        batch_rows: Rows of the global batch.
        state_factor: How many numbers an optimizer keeps for each number that it trains.
    """

    ranks: RankContext
    row: Batch
    batch_rows: int
    state_factor: int = 2


class Placement:
    """A model as one rank has it; this one, whole on every rank.

    Args:
        model: The model; on the rank's device.
        ranks: This process's place in the job.

    Attributes:
        rows: This process's place among those that share out the rows of a batch: all ranks, or each has all rows and is alone in it.
        stream: Which stream of randomness this rank draws from: one for each rank that computes other values than the others.
        shards: Whether a rank has only a part of the model, and every forward pass is everyone's.
        cuts_tensors: Whether a rank's part of the model has parts of tensors.
        precision: The number format of the step.
        exchange: How gradients are summed where the strategy brings that along; nothing where the recipe says it.
        busy: Whether a step is under way that the other ranks count on this one to go on with.
    """

    shards = False
    cuts_tensors = False

    def __init__(self, model: nn.Module, ranks: RankContext) -> None:
        self.model, self.ranks, self.rows = model, ranks, ranks
        self.stream = ranks.rank
        self.precision = Precision(ranks.device)
        self.exchange: Exchange | None = None
        self.busy = False

    @property
    def module(self) -> nn.Module:
        """What is called with a batch's inputs; where the model is in parts, by all ranks together."""
        return self.model

    def backward(self, batch: Batch, *, loss: Loss, pieces: int, least: int) -> tuple[Tensor, Tensor]:
        """Send a batch through forward and backward; return numerator and denominator of what this rank is to count.

        Args:
            batch: This rank's rows; there may be none.
            loss: Outputs and rows to numerator and denominator.
            pieces: Micro-batches, the same on every rank.
            least: The fewest rows of one.
        """
        raise NotImplementedError

    def finish(self, denominator: Tensor) -> Tensor:
        """Sum gradients and denominator over the ranks as far as the backward pass has not; return the global denominator."""
        raise NotImplementedError

    def norm(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Return the joint norm of the gradients of all ranks' parts, each number counted once."""
        raise NotImplementedError

    def piece(self, name: str) -> Piece | None:
        """Return which part of a parameter or buffer this rank is to write down; nothing where another rank does."""
        return None

    def local(self, name: str, whole: Tensor) -> Tensor:
        """Return this rank's part of a whole tensor that has the shape of the parameter or buffer of that name."""
        return whole

    def shapes(self) -> dict[str, list[int]]:
        """Return the whole parameters' shapes, by name."""
        return {name: list(parameter.shape) for name, parameter in self.model.named_parameters()}

    def gather(self) -> None:
        """Make the model whole again on every rank's device; the placement is over."""


class Strategy(ABC):
    """How ranks share out a model.

    Attributes:
        whole: Whether every rank keeps the whole model: then everything that trains on one device goes on several.
        formats: The number formats that go with it.
    """

    whole: ClassVar[bool] = False
    formats: ClassVar[frozenset[str]] = frozenset({"fp32"})

    @abstractmethod
    def place(self, model: nn.Module, situation: Situation, /) -> Placement:
        """Share a model out; the same on every rank, and its weights are then the same as on rank 0.

        Args:
            model: The model; changed in place.
            situation: What it is placed in.

        Raises:
            InputError: The model cannot be shared out this way; nothing was changed.
        """

    def choose(self, model: nn.Module, situation: Situation, /) -> tuple[Strategy, str]:
        """Return the strategy that is meant, and why; itself but for one that chooses among others."""
        return self, "as the recipe says"


class Everyone(nn.Module):
    """Calls a model that all ranks have to call together; a rank without rows sends one through whose answer nobody counts.

    Args:
        body: The model.
        row: Inputs of one row, on the model's device.
    """

    everyone = True

    def __init__(self, body: nn.Module, row: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.body = body
        self._row = dict(row)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the outputs of the rows that there are."""
        if next(iter(inputs.values())).shape[0]:
            out: Tensor = self.body(inputs)
            return out
        return self.nothing()

    def nothing(self) -> Tensor:
        """Return the outputs of no rows, by way of the whole network; its running statistics learn nothing of the row."""
        with _statistics_kept(self.body):
            out: Tensor = self.body(self._row)
        return out[:0]


@contextmanager
def _statistics_kept(body: nn.Module) -> Iterator[None]:
    """Let normalisations use what they have gathered: one row has no variance, and one that does not count must not be gathered.

    What other modules have put into their buffers is taken out again; those that are only read are left alone, as the backward pass may
    want them.
    """
    before = [(buffer, buffer._version, buffer.clone()) for buffer in body.buffers()]  # noqa: SLF001 (there is no other way to ask)
    gathering = [part for part in body.modules() if isinstance(part, _NormBase) and part.training and part.track_running_stats]
    for part in gathering:
        part.training = False  # nothing else: what a network calls while training has to be called, as the other ranks do
    try:
        yield
    finally:
        for part in gathering:
            part.training = True
        with torch.no_grad():
            for buffer, version, kept in before:
                if buffer._version != version:  # noqa: SLF001
                    buffer.copy_(kept)


@torch.no_grad()
def called_in(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[nn.Module, str]:
    """Return the modules that a forward pass calls, with their names: what is only read (a weight used elsewhere) is not among them.

    Args:
        model: The model; stays in the mode it is in.
        inputs: Inputs of a row or more.
    """
    called: dict[nn.Module, str] = {}
    names = {module: name for name, module in model.named_modules()}

    def note(module: nn.Module, _: object) -> None:  # what a hook returned would take the inputs' place
        called.setdefault(module, names[module])

    hooks = [module.register_forward_pre_hook(note) for module in names]
    training = model.training
    model.eval()
    try:
        model(inputs)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return called


@torch.no_grad()
def agree(model: nn.Module, ranks: RankContext) -> None:
    """Give every rank the weights of rank 0, wherever the model is: one tensor after the other passes through the rank's device.

    Args:
        model: The model, which may be on the processor while the ranks compute elsewhere.
        ranks: This process's place in the job.
    """
    for tensor in [*model.parameters(), *model.buffers()]:
        passed = tensor.to(ranks.device)
        broadcast_([passed], ranks)
        if passed is not tensor:
            tensor.copy_(passed)


def put_parameter(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Put a parameter into the place of another, by its dotted name."""
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, parameter)
